//! The judge's rules, all of them: nobody else can make one, so that each is known by name and can be tested.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule(&'static str);

impl Rule {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        self.0
    }
}

macro_rules! rules {
    ($($name:ident: $words:literal,)*) => {
        $(pub(super) const $name: Rule = Rule($words);)*
        /// All rules, in words.
        pub const ALL: &[&str] = &[$($words),*];
    };
}

rules! {
    // Deliveries.
    DELIVERY_KEPT: "an acknowledged delivery is kept once, byte for byte, with its result",
    DELIVERY_ONCE: "a repeated delivery is taken once",
    DELIVERY_REFUSED: "a refused delivery leaves nothing",
    DELIVERY_SENT: "nothing is taken in that nobody sent",
    // Purchases.
    STORY: "each purchase ends as its story says",
    PURCHASE: "an acknowledged purchase is there once and equal",
    PURCHASE_WANTED: "no purchase that nobody made",
    DECISION_HOLDS: "an acknowledged decision holds",
    TOTALS: "each shopper has what their purchases came to",
    // Calls of the contract.
    SAME_KEY: "the same key gets the same answer",
    PAYOUT: "an acknowledged payout request is there once and equal",
    PAYOUT_WANTED: "no payout that nobody asked for",
    RECORDED: "an acknowledged decision is recorded once",
    ACCOUNT: "an acknowledged account is recorded",
    FLAG: "an acknowledged flag is set and recorded",
    SIGN_IN: "an acknowledged sign-in has its session",
    WALLET: "a wallet read agrees with itself",
    // The bank.
    DEBITED_ONCE: "the bank debits a payout at most once",
    PAID_RIGHT: "the bank pays what was asked, to whom it was asked",
    PAID: "what the bank paid is what we call paid",
    OURS: "the bank knows only payouts of ours",
    // The ledger.
    MOVED_ONCE: "each movement happens once",
    WAY: "a movement goes the way of its code",
    BUCKET: "a bucket equals its transfers",
    BELOW_ZERO: "no bucket is below zero",
    HELD: "what is held equals the open payouts",
    CASHBACK: "a purchase's transfers equal its cashback",
    TOGETHER: "a purchase and its cashback go together",
    PAYOUT_MOVED: "a payout's transfers are those of its state",
    SEALS: "the chain of seals holds",
    TRANSITION: "what happened to money is in the audit log once",
    // Jobs.
    HAS_JOB: "what is under way has a job",
    HAS_REASON: "a live job has a reason",
    NO_DEAD: "no job is dead",
    ENDS_ONCE: "a job ends once",
    ENDS: "a claimed job ends or lives",
    CLAIM: "whoever settles a job holds its claim",
    AT_REST: "everything comes to rest",
    // Mail.
    HAS_MAIL: "what happened has its mail",
    TOLD_ARRIVED: "a mail that was told has arrived",
    DONE_TOLD: "a mail whose job is done was told",
    ONE_MESSAGE: "an event is mailed under one Message-ID",
    MAIL_OF_JOB: "a mail belongs to a job",
    ADDRESSEE: "a mail goes to whom it is about",
    // What production says of itself.
    AUDIT: "the audit is clean",
    AUDITOR: "the auditor has never found anything against the money",
}
