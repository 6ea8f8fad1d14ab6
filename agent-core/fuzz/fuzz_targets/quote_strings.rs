#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| agent_core_fuzz::quote_strings::check(data));
