//! Negative controls: a payout worker that is wrong must be caught by the judge, by the rule it breaks. A judge that
//! finds nothing there would find nothing anywhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

use crate::history::judge::{self, Evidence, Finding};
use crate::history::load::{Load, Pace, Target};
use crate::history::{Log, claims};
use crate::processes::Identity;
use crate::stack::{Install, Profile, command, environment, processes};

/// A process that is silent for longer has lost its claims: rescue takes eight seconds, and a look.
const STOPPED: Duration = Duration::from_secs(12);

/// Which payout worker takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Control {
    /// Production's: nothing must be found.
    Good,
    /// A new key for whatever is sent again.
    NewKey,
    /// No answer is taken for a refusal.
    ReleaseOnTimeout,
    /// Settles what others hold.
    NoFence,
}

impl Control {
    const ALL: [Self; 4] = [Self::NewKey, Self::ReleaseOnTimeout, Self::NoFence, Self::Good];

    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NewKey => "new-key",
            Self::ReleaseOnTimeout => "release-on-timeout",
            Self::NoFence => "no-fence",
        }
    }

    /// Whether a finding names what is wrong with this worker.
    fn is_named_by(self, finding: &Finding) -> bool {
        match self {
            Self::Good => false,
            Self::NewKey => finding.rule == "the bank debits a payout at most once",
            Self::ReleaseOnTimeout => {
                finding.rule == "what the bank paid is what we call paid"
                    && finding.what.contains("is failed and was debited")
            }
            Self::NoFence => finding.rule == "whoever settles a job holds its claim",
        }
    }
}

/// What a run is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which load to drive
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only this worker, else all of them
    #[arg(long, value_enum)]
    pub only: Option<Control>,
    /// How many seconds the judge may take to name what is wrong
    #[arg(long, default_value_t = 120)]
    pub patience: u64,
}

/// Runs the controls, one after the other. Returns whether the judge was right about all.
///
/// # Errors
/// When a stack does not come up or cannot be judged.
pub async fn run(options: &Options) -> Result<bool> {
    let mut all_right = true;
    for control in Control::ALL.into_iter().filter(|control| options.only.is_none_or(|only| only == *control)) {
        let begun = Instant::now();
        let result = play(control, options).await;
        command::down(Profile::Torture).await?;
        let (right, said) = result.with_context(|| control.word())?;
        all_right &= right;
        let verdict = if right { "as it must be" } else { "WRONG" };
        eprintln!("control {}: {verdict}, {} s: {said}", control.word(), begun.elapsed().as_secs());
    }
    Ok(all_right)
}

async fn play(control: Control, options: &Options) -> Result<(bool, String)> {
    let profile = Profile::Torture;
    command::wipe(profile).await?;
    let directory = profile.directory()?;
    let mut install = Install::load_or_make(&directory, options.seed)?;
    if control != Control::Good {
        for role in ["payout", "payout2"] {
            install.instead.insert(role.to_owned(), vec!["wrong".to_owned(), control.word().to_owned()]);
        }
    }
    install.save(&directory)?;
    command::up(profile, options.seed).await?;
    let told = environment(profile)?;
    let at = |name: &str| told.get(name).cloned().with_context(|| format!("stack.env: {name}"));
    let pool = PgPoolOptions::new().max_connections(8).connect(&at("DATABASE_URL")?).await?;
    claims::install(&pool).await?;
    let log = Arc::new(Log::create(&directory.join("log/clients.jsonl"))?);
    let load = Load::open(Target::of(profile)?, options.seed, Arc::clone(&log), Pace::default()).await?;
    let (stop, world) = (CancellationToken::new(), Arc::clone(load.world()));
    let evidence = Evidence {
        pool: pool.clone(),
        claims: true,
        bank_url: at("BANK_URL")?,
        bank_token: at("BANK_TOKEN")?,
        mail_url: at("MAIL_URL")?,
        log: Vec::new(),
        world,
        stories: Vec::new(),
    };
    let patience = Duration::from_secs(options.patience);
    let catching = async {
        let caught = catch(control, &evidence, patience).await;
        stop.cancel();
        caught
    };
    let (caught, driven) = if control == Control::Good {
        let (caught, driven) = tokio::join!(catching, load.run(stop.clone()));
        (caught, Some(driven?))
    } else {
        // A wrong worker may never come to an end with what it was given.
        tokio::select! {
            caught = catching => (caught, None),
            driven = load.run(stop.clone()) => bail!("the load ended by itself: {:?}", driven?.faults),
        }
    };
    let Some(driven) = driven else {
        let caught = caught?;
        return Ok((caught.is_some(), caught.unwrap_or_else(|| "the judge found nothing wrong with it".to_owned())));
    };
    caught?;
    let evidence = Evidence { log: log.ops(), stories: driven.stories, ..evidence };
    let findings =
        judge::at_rest(&evidence, patience, |what| eprintln!("control good: coming to rest: {what}")).await?;
    let first = findings.first().map_or_else(|| "no finding".to_owned(), ToString::to_string);
    Ok((findings.is_empty() && driven.faults.is_empty(), format!("{} findings: {first}", findings.len())))
}

/// Stops the payout workers past the rescue of what they hold, again and again, and lets the judge look after each time
/// until it names what is wrong. What it says of the rest counts only at rest.
async fn catch(control: Control, evidence: &Evidence, patience: Duration) -> Result<Option<String>> {
    let begun = Instant::now();
    let mut stops = 0;
    while begun.elapsed() < patience && (control != Control::Good || stops < 2) {
        if matches!(control, Control::NoFence | Control::Good) {
            stop_in_a_call(&evidence.pool).await?;
            stops += 1;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let found = judge::judge(evidence).await?;
        if let Some(finding) = found.iter().find(|finding| control.is_named_by(finding)) {
            return Ok(Some(finding.to_string()));
        }
    }
    Ok(None)
}

/// Waits until a payout worker has been in a call to the bank for a second, and stops them all for a while: their claims
/// are freed, and as nobody else is there to take them, the zombies find them free when they wake.
async fn stop_in_a_call(pool: &PgPool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (in_a_call,): (bool,) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM jobs j JOIN harness.claims c ON c.job = j.id AND c.fence = j.fence
                            WHERE j.kind = 'payouts.send' AND j.claimed_by IS NOT NULL
                              AND c.at < clock_timestamp() - interval '1 second')",
        )
        .fetch_one(pool)
        .await?;
        if in_a_call {
            break;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("no payout worker waits for the bank");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = processes(Profile::Torture)?;
    let workers: Vec<Identity> =
        all.into_iter().filter(|(name, _)| name.starts_with("payout")).map(|(_, identity)| identity).collect();
    workers.iter().for_each(|identity| identity.signal("STOP"));
    tokio::time::sleep(STOPPED).await;
    workers.iter().for_each(|identity| identity.signal("CONT"));
    Ok(())
}
