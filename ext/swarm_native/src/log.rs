//! The core's own `tracing`, on stderr, for whoever sets `SWARM_NATIVE_LOG`.

use tracing_subscriber::filter::LevelFilter;

/// The variable that asks for it: `error`, `warn`, `info`, `debug` or `trace`.
const VARIABLE: &str = "SWARM_NATIVE_LOG";

/// Begins to write, where it is asked for. Another subscriber in the process stays.
pub fn init() {
    let Ok(asked) = std::env::var(VARIABLE) else { return };
    match asked.parse::<LevelFilter>() {
        Ok(level) => {
            let _ = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).try_init();
        }
        Err(_) => eprintln!("{VARIABLE}: {asked} given, allowed: error, warn, info, debug, trace or off"),
    }
}
