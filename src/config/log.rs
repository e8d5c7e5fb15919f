use super::environment::{Environment, about};
use crate::observe::{LogFormat, LogOptions};
use crate::setting::{Entry, Section, Setting};

/// `log.*`: what is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Which lines, and in which form. `HOOKWARD_LOG` and `HOOKWARD_LOG_FORMAT`
    /// have had their say.
    pub options: LogOptions,
    /// Which requests get a line.
    pub requests: Requests,
}

/// Which requests get a line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requests {
    /// Each one.
    All,
    /// Those that ended in something else than `delivered`, `duplicate` or `unmatched`.
    #[default]
    Failed,
}

/// How much is logged.
struct Level(&'static str);

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl LogConfig {
    /// Reads `[log]`; two variables of the environment beat it.
    pub(super) fn read(section: &mut Section<'_>, environment: &Environment) -> Self {
        let Level(level) = section.get_or("level", Level("info"));
        let mut options = LogOptions {
            filter: level.to_owned(),
            format: section.get_or("format", LogFormat::Auto),
        };
        let requests = section.get_or("requests", Requests::default());

        let reader = section.reader();
        match environment.text("HOOKWARD_LOG") {
            Ok(None) => {}
            Ok(Some(filter)) => {
                options.filter = filter.to_owned();
                if options.check().is_err() {
                    reader.push(*about(
                        "HOOKWARD_LOG",
                        "is not a log filter",
                        "a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or hookward's own targets as in `hookward::deliver=debug`",
                    ));
                }
            }
            Err(problem) => reader.push(*problem),
        }
        match environment.text("HOOKWARD_LOG_FORMAT") {
            Ok(None) => {}
            Ok(Some(text)) => match format(text) {
                Some(format) => options.format = format,
                None => reader.push(*about(
                    "HOOKWARD_LOG_FORMAT",
                    "is not a log format",
                    LogFormat::FORM,
                )),
            },
            Err(problem) => reader.push(*problem),
        }
        Self { options, requests }
    }
}

impl Setting for Level {
    const FORM: &'static str = "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`; \
         `HOOKWARD_LOG` also takes single targets";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let text = entry.text().unwrap_or_default();
        let level = LEVELS.into_iter().find(|level| *level == text);
        level.map(Level).ok_or_else(|| "is not a log level".into())
    }
}

impl Setting for LogFormat {
    const FORM: &'static str =
        "`\"auto\"` (text on a terminal, else JSON), `\"text\"` or `\"json\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let text = entry.text().unwrap_or_default();
        format(&text).ok_or_else(|| "is not a log format".into())
    }
}

impl Setting for Requests {
    const FORM: &'static str = "`\"failed\"` or `\"all\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        match entry.text().as_deref() {
            Some("all") => Ok(Requests::All),
            Some("failed") => Ok(Requests::Failed),
            _ => Err("is neither \"failed\" nor \"all\"".into()),
        }
    }
}

fn format(text: &str) -> Option<LogFormat> {
    match text {
        "auto" => Some(LogFormat::Auto),
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}
