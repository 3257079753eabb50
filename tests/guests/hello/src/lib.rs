//! The smallest guest that uses the interfaces without the SDK: logs each event's stream.

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

struct Hello;

export!(Hello);

impl Guest for Hello {
    fn describe() -> Descriptor {
        let greet = Declaration { name: "greet".into(), shape: "any".into() };
        Descriptor { tags: vec!["#hello".into()], cells: vec![], streams: vec![greet] }
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        let text = format!("{stream} got {} bytes", event.len());
        charm::host::log::log(charm::host::log::Level::Info, &text);
        Ok(())
    }
}
