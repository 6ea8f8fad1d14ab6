//! A program's functions and what they refer to, read from binutils' `objdump` and `addr2line`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::said_by;

/// A function.
#[derive(Default)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Whether some instruction of it returns to its caller.
    pub(crate) returns: bool,
    /// Its instructions that name the first instruction of a function: where they are, and the function's address.
    pub(crate) references: Vec<(u64, u64)>,
}

/// A line of a source, and the function that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) function: String,
    pub(crate) file: String,
}

/// A program with lines.
pub(crate) struct Program {
    path: PathBuf,
    /// By address.
    pub(crate) functions: BTreeMap<u64, Function>,
}

impl Program {
    pub(crate) fn read(path: &Path) -> Self {
        let pointers = pointers(path);
        let mut functions = BTreeMap::new();
        let mut current = 0;
        let mut objdump = Command::new("objdump");
        objdump.args(["--disassemble", "--no-show-raw-insn", "--wide"]);
        for line in said_by(objdump.arg(path)).lines() {
            if let Some((address, name)) = function_line(line) {
                current = address;
                let name = name.to_owned();
                functions.insert(
                    current,
                    Function {
                        name,
                        ..Function::default()
                    },
                );
            } else if let Some((at, instruction)) = line.trim_start().split_once(":\t") {
                let function: &mut Function = functions.get_mut(&current).unwrap();
                let at = u64::from_str_radix(at, 16).unwrap();
                function.returns |= instruction.split_whitespace().any(|word| word == "ret");
                if let Some(to) = target(instruction, &pointers) {
                    function.references.push((at, to));
                }
            }
        }
        assert!(functions.len() > 100);
        let path = path.to_owned();
        Self { path, functions }
    }

    /// The frames that each instruction belongs to by its lines, what was inlined last first.
    pub(crate) fn frames(&self, instructions: &BTreeSet<u64>) -> BTreeMap<u64, Vec<Frame>> {
        if instructions.is_empty() {
            return BTreeMap::new();
        }
        let mut addr2line = Command::new("addr2line");
        addr2line.args([
            "--addresses",
            "--inlines",
            "--functions",
            "--demangle",
            "--exe",
        ]);
        addr2line.arg(&self.path);
        addr2line.args(instructions.iter().map(|at| format!("{at:#x}")));
        let said = said_by(&mut addr2line);
        let mut found = BTreeMap::new();
        // Each answer begins with its address, the only line that begins so.
        for answer in said.split("0x").skip(1) {
            let mut lines = answer.lines();
            let at = u64::from_str_radix(lines.next().unwrap(), 16).unwrap();
            let mut frames = Vec::new();
            while let (Some(function), Some(place)) = (lines.next(), lines.next()) {
                let function = function.to_owned();
                let (file, _) = place.rsplit_once(':').unwrap();
                let file = file.to_owned();
                frames.push(Frame { function, file });
            }
            found.insert(at, frames);
        }
        assert_eq!(found.len(), instructions.len());
        found
    }
}

/// `0000000000212b80 <name>:`
fn function_line(line: &str) -> Option<(u64, &str)> {
    let (address, name) = line.split_once(" <")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    Some((address, name.strip_suffix(">:")?))
}

/// The function whose beginning an instruction names: `call 24b1b0 <name>`, or by a pointer in memory:
/// `call *0x4a9de(%rip) # 25dc60 <name+0x88>`. A place inside of a function is none.
fn target(instruction: &str, pointers: &BTreeMap<u64, u64>) -> Option<u64> {
    let (before, _) = instruction.split_once(" <")?;
    let address = before.split_whitespace().last()?;
    let address = u64::from_str_radix(address, 16).ok()?;
    if before.contains("# ") {
        pointers.get(&address).copied()
    } else {
        Some(address)
    }
}

/// The global offset table: pointers by their addresses.
fn pointers(path: &Path) -> BTreeMap<u64, u64> {
    let mut objdump = Command::new("objdump");
    objdump.args(["--full-contents", "--section", ".got"]);
    let mut bytes = Vec::new();
    let mut start = None;
    // ` 25dc20 d0f52300 00000000 10f62300 00000000  ..#.......#.....`
    for line in said_by(objdump.arg(path)).lines() {
        let Some((address, rest)) = line.strip_prefix(' ').and_then(|it| it.split_once(' ')) else {
            continue;
        };
        start.get_or_insert(u64::from_str_radix(address, 16).unwrap());
        let digits = rest.split_once("  ").unwrap().0.replace(' ', "");
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        bytes.extend((0..digits.len()).step_by(2).map(byte));
    }
    let words = bytes.chunks_exact(8);
    let values = words.map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    (start.unwrap_or_default()..)
        .step_by(8)
        .zip(values)
        .collect()
}
