//! Logs and metrics of every binary.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{self, ConfigError};

/// Starts logging to standard error: `LOG_FORMAT` is `text` (default) or `json`, `LOG_LEVEL` a filter such as `info` or
/// `info,sqlx=warn`. A second call changes nothing.
///
/// # Errors
/// [`ConfigError`] when a setting cannot be read.
pub fn start_logging() -> Result<(), ConfigError> {
    let level = config::optional("LOG_LEVEL")?.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(level)
        .map_err(|_| ConfigError::Invalid { name: "LOG_LEVEL", expected: "a level or filter" })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // An error means that a subscriber is there already.
    let _ = match config::optional("LOG_FORMAT")?.as_deref() {
        None | Some("text") => registry.with(lines.with_ansi(false)).try_init(),
        Some("json") => registry.with(lines.json().flatten_event(true)).try_init(),
        Some(_) => return Err(ConfigError::Invalid { name: "LOG_FORMAT", expected: "text or json" }),
    };
    Ok(())
}

/// Starts counting. The handle renders the metrics page; without it (a second call in the process) there is none.
#[must_use]
pub fn start_metrics() -> Option<PrometheusHandle> {
    let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &buckets)
        .and_then(PrometheusBuilder::install_recorder)
        .inspect_err(|error| tracing::warn!(%error, "metrics are off"))
        .ok()
}
