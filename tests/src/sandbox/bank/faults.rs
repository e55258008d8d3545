//! What may go wrong at the bank, decided by key: the same seed, rate and key fail in the same way every time.

/// How a payment is mistreated. Each fault strikes a key's first request only, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Takes the payment, never answers.
    AcceptThenHang,
    /// Takes the payment, answers 500.
    AcceptThenError,
    /// Takes the payment, closes the connection without a word.
    AcceptThenClose,
    /// Takes the payment, answers 201 with half a document.
    AcceptThenGarble,
    /// Answers 500 and has done nothing.
    ErrorBefore,
    /// Never answers and has done nothing.
    HangBefore,
    /// Never answers; carries the payment out later, inside the documented deadline. Until then look-ups know nothing.
    ExecuteLate,
    /// Answers 429 and has done nothing.
    TooMany,
    /// Answers 409: the request is under way. It has done nothing.
    InFlight,
    /// Refuses for good (422); look-ups show the payment as rejected.
    Refuse,
    /// Answers late, but in time.
    Slow,
    /// Takes the payment, answers 500; the first two look-ups do not see it yet and say that they may lag.
    BlindLookUp,
    /// Takes the payment, hangs; the first look-up answers 500.
    BrokenLookUp,
    /// Accepts, then rejects: nothing is debited.
    RejectLate,
    /// Pays, and sends the money back some time later.
    Return,
    /// As `Return`, less a fee.
    ReturnLessFee,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::AcceptThenHang,
        Self::AcceptThenError,
        Self::AcceptThenClose,
        Self::AcceptThenGarble,
        Self::ErrorBefore,
        Self::HangBefore,
        Self::ExecuteLate,
        Self::TooMany,
        Self::InFlight,
        Self::Refuse,
        Self::Slow,
        Self::BlindLookUp,
        Self::BrokenLookUp,
        Self::RejectLate,
        Self::Return,
        Self::ReturnLessFee,
    ];

    /// What happens to `key`, in `per_ten_thousand` of all cases something.
    #[must_use]
    pub fn of(seed: u64, per_ten_thousand: u64, key: &str) -> Option<Self> {
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        for byte in key.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        let strikes = state % 10_000 < per_ten_thousand;
        let which = usize::try_from(mix(state) % Self::ALL.len() as u64).unwrap_or_default();
        if strikes { Self::ALL.get(which).copied() } else { None }
    }
}

/// The finaliser of SplitMix64: spreads every bit of its input over its output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_repeat_with_the_seed_and_cover_every_kind() {
        let keys: Vec<String> = (0..2_000).map(|n| format!("key-{n}")).collect();
        let play = |seed| keys.iter().map(|key| Fault::of(seed, 2_500, key)).collect::<Vec<_>>();
        assert_eq!(play(1), play(1));
        assert_ne!(play(1), play(2));
        let struck = play(1).iter().flatten().count();
        assert!((350..650).contains(&struck), "{struck}");
        for fault in Fault::ALL {
            assert!(play(1).contains(&Some(fault)), "{fault:?}");
        }
        assert!(keys.iter().all(|key| Fault::of(1, 0, key).is_none()));
    }
}
