//! The process that compiles, both ends of it: compilers are outside the engine's promise of safety, so a hostile
//! component meets one only in a child with a limit of memory and time.
//!
//! The child is told by its arguments what to do, reads the component from standard input, and leaves the code in the
//! folder that it is given. It has no environment, and ends when its standard input does: with the host.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use super::{LoadError, code::compile_into, code_cache::Scratch};
use crate::{
    env::Env,
    limits::{Limits, MESSAGE_BYTES_MAX},
    text::{clip, shown},
};

/// The first argument of a process that is to compile.
const WORD: &str = "charm-host-compile";
/// What the process says when it has compiled.
const DONE: &str = "compiled";
/// Exit codes: the component is refused; it is over a limit; the arguments are those of another version.
const MALFORMED: u8 = 10;
const OVER: u8 = 11;
const OTHER: u8 = 12;
/// How much longer a process may last than compute: others want the processor too.
const WALL: u64 = 4;
/// Bytes of output that are kept of the process; the rest is read and dropped.
const OUTPUT_BYTES_MAX: u64 = 4 << 10;

/// Who compiles components that the code cache does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This program, in a process of its own, within `compile_ms_max` and `compile_memory_bytes_max`: its `main` begins
    /// with [`compile_helper`]. It can be the embedder's own. Needs a code cache.
    Helper(PathBuf),
    /// The host, in its own process and without a limit of time or memory: for components that are trusted.
    InProcess,
}

/// Compiles a component in a process, into `scratch`. The process is killed when it takes too long, and when whoever
/// waits here goes away.
///
/// # Errors
/// `Malformed`, `Limit`, `Compiler`.
pub async fn compile(
    env: &dyn Env,
    program: &Path,
    scratch: Scratch,
    limits: &Limits,
    bytes: Arc<[u8]>,
) -> Result<Scratch, LoadError> {
    let mut command = command(program, scratch.path(), limits, bytes.len());
    let time = env.sleep(Duration::from_millis(limits.compile_ms_max.saturating_mul(WALL)));
    let (mut sender, receiver) = tokio::sync::oneshot::channel();
    let (limits, program) = (limits.clone(), program.to_owned());
    env.spawn(Box::pin(async move {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let why = format!("{} does not start: {error}", shown(&program));
                let _ = sender.send((scratch, Err(LoadError::Compiler(why))));
                return;
            }
        };
        let end = tokio::select! {
            end = attend(&mut child, &bytes) => Some(end),
            () = time => None,
            () = sender.closed() => None,
        };
        // It has ended before its folder is taken away.
        let _ = child.kill().await;
        let over_time =
            || LoadError::Limit(format!("compile-ms-max {}: it takes longer to compile", limits.compile_ms_max));
        let result = end.map_or_else(|| Err(over_time()), |end| judge(end, &limits));
        let _ = sender.send((scratch, result));
    }));
    match receiver.await {
        Ok((scratch, result)) => result.map(|()| scratch),
        Err(_) => Err(LoadError::Compiler("the host is shutting down".to_owned())),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the host starts a process")]
fn command(program: &Path, folder: &Path, limits: &Limits, bytes: usize) -> Command {
    let numbers = [
        bytes as u64,
        limits.compile_ms_max.div_ceil(1_000),
        limits.compile_memory_bytes_max as u64,
        limits.compiled_bytes_max as u64,
        limits.memory_bytes_max as u64,
    ];
    let mut command = Command::new(program);
    command.arg(WORD).arg(env!("CARGO_PKG_VERSION")).arg(folder).args(numbers.map(|number| number.to_string()));
    // In a group of its own: Ctrl-C at a terminal is for the host, which then ends it.
    command.env_clear().process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How the process ended, and the begin of what it said.
struct End {
    status: std::io::Result<ExitStatus>,
    said: String,
    noise: String,
}

async fn attend(child: &mut Child, bytes: &[u8]) -> End {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        let mut stdin = stdin?;
        // A process that ended early says why by itself.
        let _ = stdin.write_all(bytes).await;
        // Stays open until all have ended: its end is the host's.
        Some(stdin)
    };
    let (_open, said, noise, status) = tokio::join!(feed, read(stdout), read(stderr), child.wait());
    End { status, said, noise }
}

async fn read(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut output) = output {
        let _ = (&mut output).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Says what the end of the process means. Of what it wrote itself only its own short answers are told on.
fn judge(end: End, limits: &Limits) -> Result<(), LoadError> {
    use std::os::unix::process::ExitStatusExt;
    const SIGXCPU: i32 = 24;
    let End { status, said, noise } = end;
    let status = status.map_err(|error| LoadError::Compiler(clip(&error.to_string(), 256).into_owned()))?;
    let said = clip(said.trim_end(), MESSAGE_BYTES_MAX).into_owned();
    let no_memory = ["memory allocation of", "Cannot allocate memory", "os error 12"];
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    if code == Some(0) && said == DONE {
        Ok(())
    } else if status.signal() == Some(SIGXCPU) {
        Err(LoadError::Limit(format!("compile-ms-max {}: it takes longer to compile", limits.compile_ms_max)))
    } else if no_memory.iter().any(|text| noise.contains(text) || (code == Some(MALFORMED) && said.contains(text))) {
        let max = limits.compile_memory_bytes_max;
        Err(LoadError::Limit(format!("compile-memory-bytes-max {max}: the compiler needs more for it")))
    } else if code == Some(MALFORMED) {
        Err(LoadError::Malformed(said))
    } else if code == Some(OVER) {
        Err(LoadError::Limit(said))
    } else if code == Some(OTHER) {
        Err(LoadError::Compiler("it is of another version than the host: build both from one".to_owned()))
    } else if status.signal().is_some() || code == Some(101) {
        Err(LoadError::Malformed(format!("the compiler failed on it ({status})")))
    } else {
        Err(LoadError::Compiler(format!("it does not answer ({status}): its main begins with compile_helper")))
    }
}

/// Compiles a component and returns the exit code, when the process was started for that; else returns none at once.
/// For a `main` that begins so: `if let Some(exit) = charm_host::compile_helper(std::env::args_os()) { return exit; }`.
/// A host starts that program as [`Compiler::Helper`].
pub fn compile_helper(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let (code, text) = match work(arguments.collect()) {
        Ok(()) => (0, DONE.to_owned()),
        Err(LoadError::Limit(why)) => (OVER, why),
        Err(LoadError::Compiler(_)) => (OTHER, String::new()),
        Err(LoadError::Malformed(why)) => (MALFORMED, why),
        Err(_) => (MALFORMED, String::new()),
    };
    // Nobody listens any more: the exit code is not heard either.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Some(ExitCode::from(code))
}

fn work(arguments: Vec<OsString>) -> Result<(), LoadError> {
    let other = || LoadError::Compiler(String::new());
    let [version, folder, numbers @ ..] = arguments.as_slice() else { return Err(other()) };
    let numbers = numbers.iter().map(|number| number.to_str()?.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    let Some([bytes, seconds, memory, compiled, guest_memory]) = numbers.as_deref() else { return Err(other()) };
    if version != env!("CARGO_PKG_VERSION") {
        return Err(other());
    }
    let bounds = [(Resource::Cpu, *seconds), (Resource::As, *memory), (Resource::Core, 0)];
    for (resource, bound) in bounds {
        // A bound of the host's own that is lower stays.
        let _ = setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) });
    }
    let mut component = Vec::new();
    let read = std::io::stdin().lock().take(*bytes).read_to_end(&mut component);
    if read.is_err() || component.len() as u64 != *bytes {
        return Err(LoadError::Malformed("the host went away".to_owned()));
    }
    end_with_host();
    let limits = Limits {
        compiled_bytes_max: *compiled as usize,
        memory_bytes_max: *guest_memory as usize,
        ..Limits::default()
    };
    // One thread: memory that does not depend on the machine, and the other cores for the turns.
    compile_into(Path::new(folder), &limits, &component, false)
}

/// Ends the process when standard input does.
#[expect(clippy::disallowed_methods, reason = "a process of its own, without a runtime")]
fn end_with_host() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::abort();
    });
}
