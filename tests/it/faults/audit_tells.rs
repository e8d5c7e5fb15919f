//! The audit itself: every way of breaking a promise is told, and nothing else is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::audit::{Promises, holds_no_secret};
use super::facts::{Arrival, Fact, Fate, SIGNATURE};
use crate::support::{KEY, Message, OTHER_KEY};

fn promises() -> Promises {
    Promises {
        required: vec!["app"],
        remembers: true,
        failing: false,
    }
}

fn sent(request: u64, life: u32) -> Fact {
    let body = STANDARD.encode(&Message::new("msg_1").seal().body);
    Fact::Sent {
        request,
        life,
        id: "msg_1".into(),
        body,
        genuine: true,
    }
}

fn arrived(life: u32, fate: Fate) -> Arrival {
    let sealed = Message::new("msg_1").seal();
    Arrival {
        destination: "app".into(),
        life,
        id: "msg_1".into(),
        body: STANDARD.encode(&sealed.body),
        signature: SIGNATURE.map(|name| sealed.header(name).to_owned()),
        fate,
    }
}

fn answered(request: u64, status: u16) -> Fact {
    Fact::Answered {
        request,
        status,
        word: String::new(),
        about: Some("msg_1".into()),
    }
}

fn came(life: u32, fate: Fate) -> Fact {
    Fact::Arrived(arrived(life, fate))
}

/// That these facts break one promise, which these words tell.
fn tells(promises: &Promises, facts: &[Fact], words: &str) {
    let broken = promises.broken(facts);
    assert!(broken.len() == 1 && broken[0].contains(words), "{broken:?}");
}

#[test]
fn what_is_as_promised_is_passed_over() {
    let cut = Fact::Cut { request: 1 };
    let histories = [
        vec![sent(1, 1), came(1, Fate::Accepted), answered(1, 200)],
        // Tried again after each way of not being accepted.
        vec![
            sent(1, 1),
            came(1, Fate::Cut),
            answered(1, 502),
            sent(2, 1),
            came(1, Fate::Refused),
            answered(2, 502),
            sent(3, 1),
            came(1, Fate::Accepted),
            answered(3, 200),
            sent(4, 2),
            answered(4, 200),
        ],
        // Killed before the answer: nobody can know.
        vec![
            sent(1, 1),
            came(1, Fate::Accepted),
            cut,
            sent(2, 2),
            came(2, Fate::Accepted),
            answered(2, 200),
        ],
        vec![sent(1, 1), answered(1, 200), came(1, Fate::Found)],
    ];
    for facts in histories {
        assert_eq!(promises().broken(&facts), [""; 0]);
    }
}

#[test]
fn a_success_for_what_no_destination_has_is_told() {
    let none = [sent(1, 1), answered(1, 200)];
    tells(&promises(), &none, "acknowledged, and not in `app`");
    let refused = [sent(1, 1), came(1, Fate::Refused), answered(1, 200)];
    tells(&promises(), &refused, "acknowledged, and not in `app`");
    let before = [sent(1, 1), answered(1, 200), came(1, Fate::Accepted)];
    tells(&promises(), &before, "acknowledged, and not in `app`");
}

#[test]
fn what_arrives_twice_is_told() {
    let twice = [
        sent(1, 1),
        came(1, Fate::Accepted),
        came(1, Fate::Accepted),
        answered(1, 200),
    ];
    tells(&promises(), &twice, "came to `app` twice in life 1");
    let lying = [
        sent(1, 1),
        answered(1, 200),
        came(1, Fate::Found),
        came(1, Fate::Found),
    ];
    tells(&promises(), &lying, "came to `app` twice in life 1");
    let again = [
        sent(1, 1),
        came(1, Fate::Accepted),
        answered(1, 200),
        sent(2, 2),
        came(2, Fate::Accepted),
        answered(2, 200),
    ];
    let broken = promises().broken(&again);
    assert!(
        broken
            .iter()
            .all(|told| told.contains("acknowledged in life 1"))
    );
    assert!(!broken.is_empty());
    // Without anything that outlives the process that is no promise.
    let forgets = Promises {
        remembers: false,
        ..promises()
    };
    assert_eq!(forgets.broken(&again), [""; 0]);
    // A destination that fails may have one for each failure, and no more.
    let failing = Promises {
        failing: true,
        ..promises()
    };
    let in_doubt = [&[sent(9, 1), answered(9, 502)], &lying[..]].concat();
    assert_eq!(failing.broken(&in_doubt), [""; 0]);
    tells(&failing, &lying, "is in `app` 2 times, 0 in doubt");
}

#[test]
fn what_was_not_signed_or_not_like_this_is_told() {
    let with = |change: fn(&mut Arrival)| {
        let mut arrival = arrived(1, Fate::Accepted);
        change(&mut arrival);
        [sent(1, 1), Fact::Arrived(arrival)]
    };
    let bytes = with(|a| a.body = STANDARD.encode("{}"));
    let broken = promises().broken(&bytes);
    assert!(broken[0].contains("bytes nobody signed"), "{broken:?}");
    assert!(broken[1].contains("does not verify"), "{broken:?}");
    let forged = with(|a| {
        let other = Message::new("msg_1").key(OTHER_KEY).seal();
        a.signature[2] = other.header("svix-signature").to_owned();
    });
    tells(&promises(), &forged, "does not verify");
    tells(
        &promises(),
        &[came(1, Fate::Accepted)],
        "bytes nobody signed",
    );
}

#[test]
fn answers_that_are_wrong_are_told() {
    let refused = [sent(1, 1), answered(1, 401)];
    tells(&promises(), &refused, "was refused: 401");
    let mut forged = sent(1, 1);
    if let Fact::Sent { genuine, .. } = &mut forged {
        *genuine = false;
    }
    let accepted = [forged, answered(1, 200)];
    tells(&promises(), &accepted, "is forged, and answered 200");
    let astray = Fact::Answered {
        request: 1,
        status: 502,
        word: String::new(),
        about: Some("msg_2".into()),
    };
    tells(&promises(), &[sent(1, 1), astray], "answered with that of");
}

#[test]
#[should_panic = "a secret stands in"]
fn half_a_secret_is_told() {
    let half = &KEY[KEY.len() / 2..];
    holds_no_secret(&format!("{{\"key\":\"{half}\"}}"), &[KEY]);
}
