#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| agent_core_fuzz::runtime_policy::check(data));
