#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| agent_core_fuzz::event_log::check(data));
