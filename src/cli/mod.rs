//! The commands: one file a verb, each a clap structure that `run`s. Only
//! [`print`] prints; the verbs hand it lines and complaints.

mod admin;
mod body;
mod check;
mod client;
mod demo;
mod forget;
mod health;
mod init;
mod print;
mod route;
mod send;
mod serve;
mod service;
mod sign;
mod signing;
mod verify;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use crate::setting::shown_path;
use print::{Complaint, Exit, Print};

/// A verifying webhook gateway: proves Svix-signed (Standard Webhooks) requests,
/// drops replays, and forwards what is proven.
#[derive(Parser)]
#[command(
    name = "hookward",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:
  hookward demo                                  see it work; needs nothing
  hookward init > hookward.toml                  a small configuration to begin with
  hookward check                                 tell every problem in it
  hookward serve                                 run
  hookward serve --source clerk=env:CLERK_SECRET --to http://127.0.0.1:3000/hooks

Exit codes: 0 ok, 1 could not start or the answer is no, 64 bad usage or configuration."
)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Init(init::Init),
    Check(check::Check),
    Route(route::Route),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Send(send::Send),
    Health(health::Health),
    Forget(forget::Forget),
}

impl Verb {
    fn run(self, print: &mut Print<'_>) -> Result<Exit, Complaint> {
        match self {
            Verb::Serve(serve) => serve.run(print),
            Verb::Demo(demo) => demo.run(print),
            Verb::Init(init) => init.run(print),
            Verb::Check(check) => check.run(print),
            Verb::Route(route) => route.run(print),
            Verb::Sign(sign) => sign.run(print),
            Verb::Verify(verify) => verify.run(print),
            Verb::Send(send) => send.run(print),
            Verb::Health(health) => health.run(print),
            Verb::Forget(forget) => forget.run(print),
        }
    }
}

/// Runs the command that `args` (with the program's name first) ask for, with
/// this process's environment and standard streams.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    obey(args, Print::new(&mut out, &mut err)).into()
}

fn obey(args: impl IntoIterator<Item = OsString>, mut print: Print<'_>) -> Exit {
    let outcome = match Command::try_parse_from(args) {
        Ok(command) => command.verb.run(&mut print),
        Err(told) => Ok(explain(told, &mut print)),
    };
    print.end(outcome)
}

/// Help that was asked for is data; everything else clap has to say is bad usage.
/// What it quotes may be a secret that stands where it does not belong.
fn explain(mut told: clap::Error, print: &mut Print<'_>) -> Exit {
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidValue,
    ] {
        if let Some(ContextValue::String(text)) = told.get(kind) {
            let shown = shown_path(Path::new(text));
            if shown != *text {
                told.insert(kind, ContextValue::String(shown));
                // The advice quotes it, too.
                told.remove(ContextKind::Suggested);
            }
        }
    }
    let text = told.render().to_string();
    match told.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print.data(text.trim_end());
            Exit::Yes
        }
        _ => {
            print.note(text.trim_end());
            Exit::Usage
        }
    }
}

#[cfg(test)]
mod tests;
