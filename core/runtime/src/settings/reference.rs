//! The reference of all settings, from the tree itself.

use std::fmt::Write as _;

use super::leaf::Setting;
use super::names::{Kind, MEANINGLESS};
use super::tree::Settings;

/// Every setting with its names, default and meaning, as Markdown.
pub fn reference() -> String {
    let mut entries = Vec::new();
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
         ignored.\n",
    );
    let mut section = String::new();
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
        if section != parent || out.ends_with("ignored.\n") {
            section = parent.to_owned();
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
        "\nTypes of registries: {}.\n\n\
         ## Drydock settings that are ignored\n\n\
         They have no meaning here, or not yet: {}.\n",
        super::REGISTRY_TYPES.join(", "),
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
