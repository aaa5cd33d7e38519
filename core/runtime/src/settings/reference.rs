//! The reference of all settings, from the tree itself.

use std::fmt::Write as _;

use plimsoll_domain::registry::RegistryKind;

use super::leaf::Setting;
use super::names::{Entry, Kind, MEANINGLESS, Segment};
use super::notifiers::{NOTIFIER_TYPES, NotifyOptions, is_common};
use super::tree::Settings;

/// Every setting with its names, default and meaning, as Markdown.
pub fn reference() -> String {
    let mut entries: Vec<Entry> = Vec::new();
    Settings::default().describe(&[], "", &mut entries);
    let mut out = String::from(
        "# Settings\n\n\
         Every setting has one name in the file `plimsoll.toml` and two in the environment: \
         `PLIMSOLL_` and `DD_` before the name in capitals mean the same. The file is the one \
         named by `--config` or `PLIMSOLL_CONFIG`, else `plimsoll.toml` here or in the data \
         directory. The command line wins over the environment, the environment over the file.\n\n\
         `<NAME>__FILE` reads any setting from a file (at most 1 MiB, white space at the end \
         removed). An unknown `PLIMSOLL_` name, a malformed value or a contradiction ends the \
         start with a message that names it. A `DD_` name without meaning here is logged and \
         ignored. The older `WUD_` before a name works like `DD_`, and is logged.\n",
    );
    entries.retain(|entry| !is_of_every_notifier(entry));
    let mut every = Vec::new();
    let path = ["trigger", "<type>", "<name>"].map(Segment::Fixed);
    NotifyOptions::default().describe(&path, "", &mut every);
    let is_trigger = |entry: &Entry| entry.path.first() == Some(&Segment::Fixed("trigger"));
    let after = entries.iter().rposition(is_trigger).map_or(0, |at| at + 1);
    entries.splice(after..after, every);
    let mut section: Option<String> = None;
    for entry in &entries {
        let Kind::Value {
            syntax,
            default,
            secret,
        } = &entry.kind
        else {
            continue;
        };
        let name = entry.toml_name();
        let parent = name.rsplit_once('.').map_or("", |(parent, _)| parent);
        if section.as_deref() != Some(parent) {
            section = Some(parent.to_owned());
            let title = if parent.is_empty() { "General" } else { parent };
            let _ = write!(
                out,
                "\n## {title}\n\n| Setting | Environment | Value | Default | Meaning |\n|---|---|---|---|---|\n"
            );
        }
        let default = if default.is_empty() || *secret {
            "-".to_owned()
        } else {
            format!("`{default}`")
        };
        let _ = writeln!(
            out,
            "| `{name}` | `PLIMSOLL_{}` | {syntax} | {default} | {} |",
            entry.env_name(),
            entry.doc.trim()
        );
    }
    let _ = write!(
        out,
        "\n## Types of registries\n\n\
         | Type | Hosts | Logs in with |\n|---|---|---|\n{}\n\
         ## Drydock settings that are ignored\n\n\
         They have no meaning here, or not yet: {}.\n",
        registry_types(),
        MEANINGLESS
            .iter()
            .map(|name| match name.strip_suffix('_') {
                Some(_) => format!("`DD_{name}*`"),
                None => format!("`DD_{name}`"),
            })
            .collect::<Vec<_>>()
            .join(", ")
    );
    out
}

/// What every notifier has is told once.
fn is_of_every_notifier(entry: &Entry) -> bool {
    matches!(
        entry.path[..],
        [Segment::Fixed("trigger"), Segment::Fixed(kind), Segment::Name, Segment::Fixed(field)]
            if NOTIFIER_TYPES.contains(&kind) && is_common(field)
    )
}

/// One row for each type.
fn registry_types() -> String {
    let mut rows = String::new();
    for kind in RegistryKind::ALL {
        let hosts: Vec<String> = kind
            .hosts()
            .iter()
            .map(|host| format!("`{host}`"))
            .collect();
        let hosts = match hosts.is_empty() {
            true => "that of its `url`".to_owned(),
            false => hosts.join(", "),
        };
        let forms: Vec<String> = kind.forms().iter().map(ToString::to_string).collect();
        let _ = writeln!(
            rows,
            "| {} | {hosts} | {} |",
            kind.as_str(),
            forms.join("; or ")
        );
    }
    rows
}
