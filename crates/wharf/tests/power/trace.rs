//! Reads what `strace -f -y -xx` has written: the calls of all threads, in the order in which they took effect.

use std::collections::HashMap;

/// The calls that change files, make them durable, or tell somebody something.
pub const CALLS: &str = "openat,creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,\
                         sync_file_range,copy_file_range,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,\
                         symlink,symlinkat,mkdir,mkdirat,sendto,sendmsg";

/// A call that succeeded.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// The number of the line that began it.
    pub began: usize,
    /// The file of the first descriptor it names.
    pub file: Option<String>,
    /// Every text among its arguments.
    pub texts: Vec<Vec<u8>>,
    /// Its arguments after the last text, as they are written.
    pub rest: String,
}

/// What a line says.
#[derive(Debug)]
pub enum Event {
    /// A call has begun whose bytes others may see from now on.
    Begun(Call),
    /// A call has ended.
    Ended(Call),
}

/// All calls of a trace. Calls that write to sockets and pipes are reported when they begin, all others when they end.
pub fn parse(trace: &str) -> Vec<(usize, Event)> {
    let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut events = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, said)) = line.split_once(' ') else { continue };
        let said = said.trim_start();
        if said.starts_with("---") || said.starts_with("+++") {
            continue;
        }
        if let Some(begun) = said.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (number, begun));
            if let Some(call) = call(number, begun) {
                events.push((number, Event::Begun(call)));
            }
            continue;
        }
        let (began, whole) = match said.strip_prefix("<... ") {
            None => (number, said.to_owned()),
            Some(resumed) => {
                let (began, begun) = open.remove(thread).expect("what is resumed has begun");
                let (_, end) = resumed.split_once(" resumed>").expect("a resumed call says so");
                (began, format!("{begun}{end}"))
            }
        };
        let (arguments, result) = whole.rsplit_once(" = ").unwrap_or_else(|| panic!("no result: {whole}"));
        let returned = result.split(['<', ' ']).next().unwrap_or_default();
        // `?` is what a thread returns that was killed in its call.
        let returned =
            if returned == "?" { -1 } else { returned.parse::<i64>().expect("a number is returned") };
        let arguments = arguments.trim_end().strip_suffix(')').expect("arguments end with a bracket");
        let Some(call) = call(began, arguments) else { continue };
        if began == number {
            events.push((number, Event::Begun(call.clone())));
        }
        if returned >= 0 {
            events.push((number, Event::Ended(call)));
        }
    }
    events
}

fn call(began: usize, text: &str) -> Option<Call> {
    let (name, arguments) = text.split_once('(')?;
    let (texts, rest) = texts(arguments);
    let name = name.to_owned();
    Some(Call { name, began, file: file(arguments), texts, rest: rest.to_owned() })
}

/// The path in `7</path>`, unless the file has none any more.
fn file(arguments: &str) -> Option<String> {
    let digits = arguments.trim_start_matches(|c: char| c.is_ascii_digit());
    let (path, after) = digits.strip_prefix('<')?.split_once('>')?;
    let known = digits.len() < arguments.len() && !after.starts_with("(deleted)");
    known.then(|| String::from_utf8_lossy(&unescaped(path)).into_owned())
}

/// The quoted texts, and what follows the last of them.
fn texts(arguments: &str) -> (Vec<Vec<u8>>, &str) {
    let (mut texts, mut rest) = (Vec::new(), arguments);
    while let Some((_, quoted)) = rest.split_once('"') {
        let (text, after) = quoted.split_once('"').expect("texts end");
        assert!(!after.starts_with("..."), "a text was cut");
        texts.push(unescaped(text));
        rest = after;
    }
    (texts, rest)
}

/// Every byte is written `\x41`.
fn unescaped(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\\' | b'x')).collect();
    let nibble = |digit: u8| char::from(digit).to_digit(16).expect("bytes are hexadecimal") as u8;
    digits.chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
}
