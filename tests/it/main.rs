//! Integration tests.

mod jobs;
mod jobs_dispatch;
mod jobs_worker;
