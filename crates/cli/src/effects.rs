//! `onefold effects`: what was recorded of effects, and saying what became of one nobody knows about.

use clap::{Args, Subcommand};
use onefold_core::{EffectState, ResolveOutcome};
use onefold_wire::{Effect, EffectList, EffectStanding, RawValue, ResolveEffect};

use crate::client::escaped;
use crate::config::{Config, RemoteArgs};
use crate::failure::Failure;
use crate::look::{SourceArgs, query};
use crate::output::Output;
use crate::table::{Align, Table, cut};
use crate::time::{given, now, readable, relative};

/// Most characters of a result that are shown; `--json` shows all.
const VALUE: usize = 400;

/// `onefold effects`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EffectsArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// List effects by scope and key
    List(ListArgs),
    /// Show everything about one
    Show(ShowArgs),
    /// Say what became of an indeterminate one, once you have found out
    Resolve(ResolveArgs),
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// In this scope: a job's id, or any name
    #[arg(long)]
    scope: Option<String>,
    /// In this state; several times or with commas: in one of them
    #[arg(long, short, value_delimiter = ',', value_parser = state)]
    state: Vec<EffectState>,
    /// At most this many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Go on where an earlier answer ended
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct ShowArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The effect's scope: a job's id, or any name
    scope: String,
    /// Which effect of the scope
    key: String,
}

#[derive(Debug, Clone, Args)]
struct ResolveArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The effect's scope: a job's id, or any name
    scope: String,
    /// Which effect of the scope
    key: String,
    /// completed: it happened; released: it did not, and the next begin executes it
    #[arg(long, value_parser = outcome)]
    outcome: ResolveOutcome,
    /// Who found out, and how; kept with the effect
    #[arg(long)]
    note: String,
    /// What is replayed from now on, as JSON
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
}

fn state(word: &str) -> Result<EffectState, String> {
    let words: Vec<&str> = EffectState::ALL.iter().map(|state| state.as_str()).collect();
    EffectState::parse(word).ok_or_else(|| format!("a state is one of {}", words.join(", ")))
}

fn outcome(word: &str) -> Result<ResolveOutcome, String> {
    ResolveOutcome::parse(word).ok_or_else(|| "an outcome is completed or released".to_owned())
}

fn path(scope: &str, rest: &str) -> String {
    format!("/v1/effects/{}/{}", escaped(scope), escaped(rest))
}

pub(crate) async fn effects(args: EffectsArgs, config: &Config, output: Output) -> Result<(), Failure> {
    match args.what {
        None => list(args.list, config, output).await,
        Some(What::List(args)) => list(args, config, output).await,
        Some(What::Show(args)) => show(args, config, output).await,
        Some(What::Resolve(args)) => resolve(args, config, output).await,
    }
}

async fn list(args: ListArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = args.source.client(config)?;
    let states: Vec<&str> = args.state.iter().map(|state| state.as_str()).collect();
    let given = [
        ("scope", args.scope),
        ("state", (!states.is_empty()).then(|| states.join(","))),
        ("limit", Some(args.limit.to_string())),
        ("cursor", args.cursor),
    ];
    let answer = client.get(&format!("/v1/effects{}", query(&given))).await?;
    if output.json {
        return output.line(answer.text());
    }
    let list: EffectList<'_> = answer.read()?;
    if list.effects.is_empty() && list.cursor.is_none() {
        return output.line("no effects");
    }
    let mut table = Table::new(&[
        ("SCOPE", Align::Left),
        ("KEY", Align::Left),
        ("STATE", Align::Left),
        ("POLICY", Align::Left),
        ("EXECUTED", Align::Right),
        ("REPLAYED", Align::Right),
        ("BEGUN", Align::Left),
    ]);
    let now = now();
    for effect in &list.effects {
        table.row(vec![
            effect.scope.to_string(),
            effect.key.to_string(),
            effect.state.to_string(),
            effect.policy.to_string(),
            effect.executions.to_string(),
            effect.replays.to_string(),
            relative(self::given(&effect.begun_at), now),
        ]);
    }
    for line in table.lines() {
        output.line(line)?;
    }
    match list.cursor {
        Some(cursor) => output.line(format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

async fn show(args: ShowArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = args.source.client(config)?;
    let answer = client.get(&path(&args.scope, &args.key)).await?;
    if output.json {
        return output.line(answer.text());
    }
    let effect: Effect<'_> = answer.read()?;
    for line in page(&effect) {
        output.line(line.replace(|c: char| c.is_control(), " "))?;
    }
    Ok(())
}

fn page(effect: &Effect<'_>) -> Vec<String> {
    let time = |text: &str| format!("{} ({})", readable(given(text)), relative(given(text), now()));
    let mut lines = vec![format!("{} of {}: {}", effect.key, effect.scope, effect.state)];
    let mut tell = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:<9} {value}")));
    };
    let in_attempt = effect.attempt.map(|attempt| format!(", last in attempt {attempt}")).unwrap_or_default();
    tell("job", effect.job.as_ref().map(ToString::to_string));
    tell("policy", Some(effect.policy.to_string()));
    tell(
        "executed",
        Some(format!("{} times{in_attempt}; replayed {} times", effect.executions, effect.replays)),
    );
    tell("begun", Some(time(&effect.begun_at)));
    tell("ended", effect.ended_at.as_ref().map(|at| time(at)));
    tell("lease", effect.lease_until.as_ref().map(|at| format!("until {}", time(at))));
    tell(
        "key",
        effect.key_valid_until.as_ref().map(|at| format!("its receiver knows it until {}", time(at))),
    );
    tell(
        "late",
        effect
            .late_writes
            .as_ref()
            .map(|late| format!("{} writes with an old token were refused", late.count)),
    );
    tell("found out", effect.resolution.as_ref().map(|found| format!("{}: {}", found.outcome, found.note)));
    tell("result", effect.result.map(|value| cut(value.get(), VALUE)));
    if &*effect.state == EffectState::Indeterminate.as_str() {
        lines.push("Nobody knows whether it happened. Find out, and say so:".to_owned());
        lines.push(format!(
            "  onefold effects resolve {} {} --outcome completed|released --note …",
            effect.scope, effect.key
        ));
    }
    lines
}

async fn resolve(args: ResolveArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = crate::client::Client::server(&config.remote(args.remote).map_err(Failure::usage)?)?;
    let result = args.result.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    let result = result.map_err(|why| Failure::usage(format!("--result is not JSON: {why}")))?;
    let body = ResolveEffect {
        key: args.key.as_str().into(),
        outcome: args.outcome.as_str().into(),
        note: args.note.as_str().into(),
        result,
    };
    let answer = client.post(&path(&args.scope, "resolve"), &body).await?;
    if output.json {
        return output.line(answer.text());
    }
    let standing: EffectStanding<'_> = answer.read()?;
    let then = match args.outcome {
        ResolveOutcome::Completed => "it is replayed from now on",
        ResolveOutcome::Released => "the next begin executes it",
    };
    output.line(format!("{} of {} is {}: {then}", args.key, args.scope, standing.state))
}
