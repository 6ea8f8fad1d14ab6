//! From sealed bytes to files without one allocation, counted.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::{open_single, seal_single};
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{Limits, unpack};

/// The system's allocator, which counts what this thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local integer that needs neither
// an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations the work made on this thread.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (COUNT.with(Cell::get) - before, result)
}

/// Adds up what it receives.
#[derive(Default)]
struct Sum {
    files: usize,
    bytes: usize,
}

impl Sink for Sum {
    type Error = Infallible;

    fn directory(&mut self, _: &str, _: u32) -> Result<(), Infallible> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: u32, _: u64) -> Result<(), Infallible> {
        self.files += 1;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.bytes += bytes.len();
        Ok(())
    }

    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[test]
fn the_detector_detects() {
    let (count, boxed) = allocations(|| Box::new(7));
    assert_eq!((count, *boxed), (1, 7));
    let (count, grown) = allocations(|| {
        let mut grown = Vec::with_capacity(1);
        grown.extend([1, 2, 3]);
        grown
    });
    assert_eq!((count, grown.len()), (2, 3));
}

#[test]
fn halves_to_files_without_an_allocation() {
    let archives: [(&[u8], usize, usize); 4] = [
        (include_bytes!("vectors/zip/python-stored.zip"), 3, 413),
        (
            include_bytes!("vectors/zip/python-deflated-comment.zip"),
            2,
            10_500,
        ),
        (include_bytes!("vectors/zip/infozip-stream.zip"), 2, 3218),
        (include_bytes!("vectors/zip/infozip-zip64.zip"), 2, 3218),
    ];
    let mut inflater = Box::new(Inflater::new());
    for (archive, files, bytes) in archives {
        for key_bytes in [16, 32] {
            let key = Key::from_slice(&[0xA5; 32][..key_bytes]).unwrap();
            let v = Half::from_slice(&[0x0F; 32][..key_bytes]).unwrap();
            let u = key.other_half(&v).unwrap();
            let mut vault = archive.to_vec();
            let tag = seal_single(&key, &[1; 16], &mut vault).unwrap();
            vault.splice(..0, [1; 16]);
            vault.extend(tag);

            let (count, sum) = allocations(|| {
                let key = u.combine(&v).unwrap();
                assert!(key.matches(b"uuid", &key.auth_tag(b"uuid")));
                let archive = open_single(&key, &mut vault).unwrap();
                let mut sum = Sum::default();
                unpack(archive, &Limits::default(), &mut inflater, &mut sum).unwrap();
                sum
            });
            assert_eq!((count, sum.files, sum.bytes), (0, files, bytes));
        }
    }
}

/// Refusing doesn't allocate either.
#[test]
fn errors_without_an_allocation() {
    let key = Key::from_slice(&[1; 32]).unwrap();
    let mut sealed = vec![0; 100];
    let broken = [&b"PK\x03\x04"[..], &[0; 100]].concat();
    let mut inflater = Box::new(Inflater::new());
    let (count, ()) = allocations(|| {
        assert!(Half::from_slice(&[0; 15]).is_err());
        assert!(open_single(&key, &mut sealed).is_err());
        let refused = unpack(
            &broken,
            &Limits::default(),
            &mut inflater,
            &mut Sum::default(),
        );
        assert!(refused.is_err());
    });
    assert_eq!(count, 0);
}
