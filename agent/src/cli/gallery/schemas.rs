//! `docs/schemas`: a JSON Schema for each kind of document, and which command prints which.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Gallery, Kind, TEXT_ONLY, leaves};
use crate::control::proto::API_VERSION;

const HEAD: &str = "\
# JSON Schemas of what commands print

Generated from the types that are printed; do not edit. Each file describes, in JSON Schema 2020-12, the document that
commands print with `-o json`, or as YAML with `-o yaml`: an object of `apiVersion`, `kind` and `data`.

With `-o jsonl` a document is one line, and where `data` is a list each of its items is a line by itself, without
`apiVersion` and `kind`: what `properties.data.items` describes. So are the lines of `events --follow` and
`audit tail --follow`. `status --watch` and `latency --watch` print whole documents, one a line.

Within `v1` fields are added and never renamed or removed, so a reader ignores those that it does not know.

| command | prints |
|---|---|
";

impl Kind {
    /// The schema of its documents.
    fn schema(&mut self, kind: &str) -> Value {
        let mut data: Vec<Value> = self.data.iter().map(|schema| schema.clone().to_value()).collect();
        let data = if data.len() == 1 { data.remove(0) } else { json!({ "anyOf": data }) };
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": kind,
            "type": "object",
            "properties": {
                "apiVersion": { "const": API_VERSION },
                "kind": { "const": kind },
                "data": data,
            },
            "required": ["apiVersion", "kind", "data"],
            "$defs": self.generator.take_definitions(true),
        });
        plain(&mut schema);
        schema
    }
}

/// Turns descriptions from rustdoc into text: no links, and one line.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if let Value::String(text) = value
                    && key == "description"
                {
                    *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
                } else {
                    plain(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The files of `docs/schemas`.
fn files() -> BTreeMap<String, String> {
    let mut gallery = Gallery::filled();
    let mut index = HEAD.to_owned();
    let commands = gallery.commands();
    for leaf in leaves() {
        let kinds = commands.get(&leaf).into_iter().flatten();
        let links: Vec<String> = kinds.map(|kind| format!("[`{kind}`]({kind}.json)")).collect();
        let text = TEXT_ONLY.iter().find(|(command, _)| *command == leaf).map(|(_, text)| (*text).to_owned());
        let what = text.unwrap_or_else(|| links.join(", "));
        index.push_str(&format!("| `{leaf}` | {what} |\n"));
    }
    let schemas = gallery.kinds.iter_mut().map(|(kind, shown)| {
        let schema = serde_json::to_string_pretty(&shown.schema(kind)).unwrap();
        (format!("{kind}.json"), format!("{schema}\n"))
    });
    let mut files: BTreeMap<String, String> = schemas.collect();
    files.insert("README.md".to_owned(), index);
    files
}

mod tests {
    use integration_tests::schemas::{Check, check};

    use super::*;
    use crate::cli::gallery::{compare, in_workspace};

    /// Set `UPDATE_REFERENCE` to write the files anew.
    #[test]
    fn reference_is_current() {
        compare("docs/schemas", ".json", &files());
    }

    #[test]
    fn samples_satisfy_their_schemas() {
        let kinds = Gallery::filled().kinds;
        let documents = kinds
            .iter()
            .flat_map(|(kind, shown)| shown.documents.iter().map(move |document| (*kind, document)));
        let lines: Vec<Value> = documents.map(|(kind, document)| json!([kind, document])).collect();
        let printed = check(&in_workspace("docs/schemas"), Check::Closed, &lines).unwrap();
        assert_eq!(printed.trim(), format!("{} bodies, 0 refused", lines.len()));
    }
}
