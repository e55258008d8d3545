//! The manual rail: a person pays. No job carries its payouts and no call is made; administrators act through
//! `shared::payouts::process`.

use shared::money::Money;
use shared::payouts::{Call, Instruction, Line, Reading, State, Terms, Word};

use super::Rail;

/// The rail of an installation without a bank connection. Its worker only opens payouts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manual;

impl Rail for Manual {
    fn about(&self) -> shared::payouts::Rail {
        let terms =
            Terms { deadline: time::Duration::ZERO, key_window: time::Duration::ZERO, patience: time::Duration::ZERO };
        // Payouts of rail `manual` never reach `begin`: it leaves a name it does not serve alone.
        shared::payouts::Rail {
            name: "",
            terms,
            call_timeout: std::time::Duration::ZERO,
            booked_within: std::time::Duration::ZERO,
        }
    }

    fn compose(&self, _: &Instruction) -> Vec<u8> {
        Vec::new()
    }

    async fn send(&self, _: &str, _: &[u8]) -> Word {
        nobody(Call::Send)
    }

    async fn look_up(&self, _: &str, _: Money) -> Word {
        nobody(Call::LookUp)
    }

    async fn movements(&self, _: i64) -> anyhow::Result<Vec<Line>> {
        Ok(Vec::new())
    }
}

fn nobody(call: Call) -> Word {
    let why = format!("a person carries payouts that are {}", State::Requested.as_str());
    Word { call, body: why.clone(), reading: Reading::Unknown { why }, http_status: None }
}
