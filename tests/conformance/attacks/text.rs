//! Text that is not what it looks like, and more of it than anybody reads.

use super::*;

/// Of each kind one or two: steers a terminal, ends a line, turns the direction, is not seen.
const HIDDEN: &str = "\u{1b}\u{7}\n\u{85}\u{9b}\u{2028}\u{2029}\u{61c}\u{200e}\u{202e}\u{2066}\u{2069}\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}\u{fe0f}\u{e0041}";

/// Fails for text that holds any of it; line ends between lines of the log are no part of it.
#[track_caller]
fn is_clean(text: &str) {
    let found = text.chars().find(|c| HIDDEN.contains(*c));
    assert_eq!(found, None, "{text:?}");
}

fn guest_lines(logs: &Logs, id: &EventId) -> Vec<String> {
    let with_id = logs.lines(&id.to_string());
    with_id.into_iter().filter(|line| line.contains("charm::guest")).collect()
}

/// T7: nothing that a guest says reaches a log, a receipt, a dead letter or another guest's error as it is.
#[tokio::test(flavor = "multi_thread")]
async fn no_hidden_text_of_a_guest_passes() {
    let logs = Logs::capture();
    let host = host().await;
    let (evil, other) = pair(&host).await;
    let stranger = probe(&host, "stranger").await;
    let name = HIDDEN.replace(char::is_control, "");
    let (mut messages, mut letters) = (0, 0);
    for steps in [
        json!([["reject", HIDDEN]]),
        json!([["panic", HIDDEN]]),
        json!([["get", of(stranger, &name), []]]),
        json!([["set", "map", [], { HIDDEN: 1 }], ["set", "map", [HIDDEN, "deeper"], 1]]),
        json!([["set", "shaped", [], { HIDDEN: 1, "n": HIDDEN }]]),
        json!([["send", &name, 1]]),
        json!([["send", of(other, &name), 1]]),
        json!([["send", of(other, "shaped"), { HIDDEN: HIDDEN }]]),
        json!([["fetch", { "method": HIDDEN, "url": format!("http://{HIDDEN}/") }]]),
        json!([["fetch", { "method": "GET", "url": "http://a.example/", "headers": [[HIDDEN, HIDDEN]] }]]),
        json!([["get", [format!("did:key:{HIDDEN}"), "cell"], []]]),
        json!([["wish", HIDDEN, {}]]),
    ] {
        let said = json!([["log", "debug", HIDDEN], ["log", "info", HIDDEN], ["log", "error", HIDDEN]]);
        let steps: Vec<_> = [said, steps].iter().flat_map(|part| part.as_array().unwrap().clone()).collect();
        let receipt = run(&host, evil, steps.clone().into()).await;
        if let Some(message) = &receipt.message {
            is_clean(message);
            messages += 1;
        }
        // Who asked for its receipt is told of a rejection: it leaves no dead letter (S11).
        letters += usize::from(!matches!(receipt.outcome, Outcome::Committed | Outcome::Rejected));
        assert_eq!(guest_lines(&logs, &receipt.id).len(), 3, "{steps:?}");
        // What the guest itself gets to see: others' names are no exception.
        let tried: Vec<_> = steps.iter().skip(3).map(|step| json!(["try", step])).collect();
        if !["reject", "panic"].contains(&steps[3][0].as_str().unwrap()) && steps[3][1] != json!("shaped") {
            is_clean(&results(&host, evil, tried.into()).await.to_string());
        }
    }
    assert!(messages >= 8, "{messages}");
    settle(&host).await;
    let dead = host.dead_letters(&evil, 0, usize::MAX).unwrap();
    assert!(letters > 0 && dead.len() >= letters, "{} letters", dead.len());
    dead.iter().for_each(|letter| is_clean(letter.receipt.message.as_deref().unwrap_or_default()));
    for did in [evil, other] {
        logs.lines(&did.to_string()).iter().for_each(|line| is_clean(line));
    }
}

/// T7: the names that a charm declares, in errors and in the log, and those that outsiders ask for.
#[tokio::test(flavor = "multi_thread")]
async fn no_hidden_name_passes() {
    let logs = Logs::capture();
    let host = host().await;
    // The stream has the name U+202E.
    let evil = hostile(&host, "evil", &[("\\63run", "\\63\\e2\\80\\ae")]).await;
    let id = host.request(NewEvent::new(evil, "\u{202e}", value(json!(1)))).await.unwrap().id;
    let lines = logs.lines(&id.to_string());
    assert!(!lines.is_empty());
    lines.iter().for_each(|line| is_clean(line));
    let error = host.send(NewEvent::new(evil, HIDDEN, value(json!(1)))).await.unwrap_err();
    assert!(matches!(error, SendError::NoSuchStream { .. }));
    is_clean(&error.to_string());
    let cell = HIDDEN.replace(char::is_control, "");
    let outside = probe(&host, "outside").await;
    is_clean(&host.get_as::<Value>(&outside, &evil, &cell, &Path::root()).await.unwrap_err().to_string());
    // A descriptor that is refused is quoted.
    let twice = by_hand::charm(&[("\\63any", "\\63\\e2\\80\\ae")]);
    is_clean(&host.install(Charm::new("twice", twice)).await.unwrap_err().to_string());
}

/// A5: a line says which charm and event wrote it, without the spans around it.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_says_whose_it_is() {
    let logs = Logs::capture();
    let host = host().await;
    let evil = probe(&host, "evil").await;
    let steps = json!([["log", "warn", "charm=did:key:somebody else"], ["repeat", 300, ["log", "info", ""]]]);
    let id = run(&host, evil, steps).await.id;
    let lines = guest_lines(&logs, &id);
    assert!(lines.len() > 100);
    for line in lines {
        let (_, own) = line.split_once("charm::guest: ").unwrap();
        assert!(own.ends_with(&format!(" charm={evil} event={id}")), "{line}");
    }
}

/// A5: a line costs 64 bytes beside its text, so empty lines end too; what is left out is told once.
#[tokio::test(flavor = "multi_thread")]
async fn many_empty_lines_are_few() {
    let logs = Logs::capture();
    let host = host().await;
    let neighbour = probe(&host, "neighbour").await;
    let evil = probe(&host, "evil").await;
    let receipt = run(&host, evil, json!([["repeat", 16_000, ["log", "error", ""]]])).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let lines = guest_lines(&logs, &receipt.id);
    let logged = Limits::default().log_bytes_max / LOG_LINE_BYTES;
    assert_eq!(lines.len(), logged + 1);
    let cut: Vec<_> = lines.iter().filter(|line| line.contains("log-bytes-max reached")).collect();
    assert_eq!(cut.len(), 1);
    assert!(cut[0].contains(&format!("{} lines", 16_000 - logged)) && cut[0].contains("WARN"), "{}", cut[0]);
    is_served(&host, neighbour).await;
}

/// A5: and so do full ones, in as few bytes as the limit says.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_logs_no_more_than_its_bytes() {
    let logs = Logs::capture();
    let host = host().await;
    let evil = probe(&host, "evil").await;
    // Each hidden character takes eight bytes in the log. Lines that are cut by their own length, and others.
    for (word, times) in [("x", 700), ("\u{202e}", 700), ("\u{202e}", 100), ("水", 700), ("水", 100)] {
        let receipt = run(&host, evil, json!([["repeat", 200, ["log", "error", word.repeat(times)]]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        let lines = guest_lines(&logs, &receipt.id);
        let (cut, said): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains("log-bytes-max reached"));
        assert_eq!(cut.len(), 1);
        let text = |line: &&String| {
            let (_, own) = line.split_once("charm::guest: ").unwrap();
            own.rsplit_once(" charm=").unwrap().0.len()
        };
        // What the last line costs beside its text may be more than is left.
        let bytes = said.iter().map(text).sum::<usize>() + (said.len() - 1) * LOG_LINE_BYTES;
        let max = Limits::default().log_bytes_max;
        assert!((max / 2..=max).contains(&bytes), "{bytes} bytes in {} lines", said.len());
    }
}
