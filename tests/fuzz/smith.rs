//! Components that wasm-smith makes: of any shape, and modules in the place of a charm's own.

use arbitrary::{Arbitrary, Unstructured};
use charm_conformance::Random;
use wasm_smith::{Component, Config, Module};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// Most bytes that wasm-smith makes its choices from.
const CHOICES_MAX: u64 = 4 << 10;

/// A charm whose main module is replaced by others of the same imports and exports.
pub struct Frame {
    /// The component before the section of the module, and after it.
    around: (Vec<u8>, Vec<u8>),
    module: Vec<u8>,
}

impl Frame {
    /// Takes a charm apart. The first of its modules is its own; others are of whoever made it a component.
    pub fn of(charm: &[u8]) -> Frame {
        for payload in Parser::new(0).parse_all(charm) {
            if let Payload::ModuleSection { unchecked_range, .. } = payload.unwrap() {
                let module = charm[unchecked_range.clone()].to_vec();
                // Before it stand the section's number and length.
                let begin = unchecked_range.start - 1 - leb(module.len()).len();
                assert_eq!(charm[begin], 1, "a section of a module");
                let around = (charm[..begin].to_vec(), charm[unchecked_range.end..].to_vec());
                return Frame { around, module };
            }
        }
        panic!("a charm has a module");
    }

    /// Returns the charm with a random module; none when the choices do not suffice for one.
    pub fn filled(&self, random: &mut Random) -> Option<Vec<u8>> {
        let choices = choices(random);
        let mut choices = Unstructured::new(&choices);
        let config = Config { module_shape: Some(self.module.clone()), ..config(random, &mut choices)? };
        let module = Module::new(config, &mut choices).ok()?.to_bytes();
        let (before, after) = &self.around;
        Some([&before[..], &[1], &leb(module.len()), &module, after].concat())
    }
}

/// Returns any component; none when the choices do not suffice for one.
pub fn component(random: &mut Random) -> Option<Vec<u8>> {
    let choices = choices(random);
    let mut choices = Unstructured::new(&choices);
    let config = Config { max_modules: 4, max_components: 4, ..config(random, &mut choices)? };
    Some(Component::new(config, &mut choices).ok()?.to_bytes())
}

/// Changes a letter in the name or the version of something imported or exported.
pub fn renamed(random: &mut Random, mut component: Vec<u8>) -> Vec<u8> {
    let name = b"charm:host/";
    let places: Vec<usize> =
        component.windows(name.len()).enumerate().filter(|(_, window)| window == name).map(|(at, _)| at).collect();
    if !places.is_empty() {
        let at = random.pick(&places) + random.below(24) as usize;
        if let Some(letter) = component.get_mut(at) {
            *letter = *random.pick(b"0123456789.-@/:abcxyz");
        }
    }
    component
}

/// Returns whether the engine might compile it: it is a valid component of what some engine supports.
pub fn is_valid(bytes: &[u8]) -> bool {
    Parser::is_component(bytes) && Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_ok()
}

fn choices(random: &mut Random) -> Vec<u8> {
    (0..random.below(CHOICES_MAX)).map(|_| random.bits() as u8).collect()
}

/// Any settings, or in two of three cases what the engine supports and an instance may have.
fn config(random: &mut Random, choices: &mut Unstructured<'_>) -> Option<Config> {
    let config = Config::arbitrary(choices).ok()?;
    if random.chance(333) {
        return Some(config);
    }
    Some(Config {
        exceptions_enabled: false,
        gc_enabled: false,
        max_memories: 1,
        max_memory32_bytes: 1 << 20,
        max_table_elements: 100,
        max_tables: 1,
        max_tags: 0,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        ..config
    })
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
