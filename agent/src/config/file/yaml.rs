//! YAML and JSON text to [`Node`]s, within budgets that no honest file of this program comes near.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::budget::BudgetBreach;
use serde_yaml::options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Budget, Location, Options, Spanned};

use super::node::{Node, Place, Value};
use super::read::Source;
use crate::config::error::{Finding, Severity};

/// Deepest nesting. A sensible profile uses about ten levels; a level costs about 30 kB of stack in an
/// unoptimised build, and this many must fit into a thread's 2 MiB.
const MAX_DEPTH: usize = 32;
/// Most values in a file; the size limit allows a fraction of this in any sensible file.
const MAX_NODES: usize = 100_000;

/// Parses a file's text. A file without any value is [`Value::Null`].
///
/// # Errors
/// On text that is no YAML, on more than one document, on tags with a meaning, and beyond the budgets for
/// nesting, size and alias expansion (the "billion laughs").
pub fn parse(source: &Source) -> Result<Node, Box<Finding>> {
    if source.text().lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { value: Value::Null, place: Place { line: 1, column: 1, file: 0 } });
    }
    match serde_yaml::from_str_with_options::<Spanned<Value>>(source.text(), options()) {
        Ok(root) => Ok(node(root)),
        Err(error) => Err(Box::new(describe(source, &error))),
    }
}

fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.flow_nesting_limit = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 3 * MAX_NODES;
    budget.max_aliases = 1_000;
    budget.max_anchors = 1_000;
    budget.max_documents = 1;
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = MAX_NODES;
    aliases.max_replay_stack_depth = 8;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits = aliases;
    // Kept in the tree, so that all of them are reported and with both places.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.reject_unsupported_tags = true;
    options.non_finite_float_policy = NonFiniteFloatPolicy::AsString;
    options.emit_comments = false;
    options.with_snippet = false;
    options
}

fn describe(source: &Source, error: &serde_yaml::Error) -> Finding {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let message = message(error.without_snippet());
    let Place { line, column, .. } = place(location, location);
    if line == 0 {
        return Finding::about_file(Severity::Error, source.path(), message, None);
    }
    Finding::at(Severity::Error, source.path(), source.line(line), line, column, message)
}

fn message(error: &serde_yaml::Error) -> String {
    if let serde_yaml::Error::Budget { breach, .. } = error {
        if let BudgetBreach::Depth { .. } = breach {
            return too_deep();
        }
        if let BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } = breach {
            return format!("the file has more than {MAX_NODES} values");
        }
    }
    let text = error.to_string();
    // The parser's own limit on brackets, and errors inside an alias, arrive as texts only.
    if text.starts_with("recursion limit exceeded") {
        return too_deep();
    }
    if text.starts_with("alias replay limit exceeded") {
        return format!("aliases expand to more than {MAX_NODES} values");
    }
    // The library appends the place, which the finding states in front.
    text.find(" at line ").map_or(text.as_str(), |end| &text[..end]).to_owned()
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { place: place(spanned.defined, spanned.referenced), value: spanned.value }
}

fn place(defined: Location, referenced: Location) -> Place {
    let location = if defined == Location::UNKNOWN { referenced } else { defined };
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: narrow(location.line()), column: narrow(location.column()), file: 0 }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        // Beyond every range that is checked later, whichever value it is.
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<Value>, Spanned<Value>>()? {
            entries.push((node(key), node(value)));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("/x.yaml".into(), text.to_owned())
    }

    fn fails(text: &str) -> Finding {
        *parse(&source(text)).unwrap_err()
    }

    #[test]
    fn every_value_knows_its_place() {
        let root =
            parse(&source("# top\na:\n  - {x: 1, 'y': \"2\"}\n  - 30%\nb: yes\nc: 1.5\nb: 007\n")).unwrap();
        let Value::Map(entries) = &root.value else { panic!("{root:?}") };
        let keys: Vec<_> =
            entries.iter().map(|(k, _)| (k.value.clone(), k.place.line, k.place.column)).collect();
        let text = |t: &str| Value::Text(t.to_owned());
        assert_eq!(
            keys,
            [(text("a"), 2, 1), (text("b"), 5, 1), (text("c"), 6, 1), (text("b"), 7, 1)],
            "duplicates are kept"
        );
        let Value::List(items) = &root.get("a").unwrap().value else { panic!() };
        assert_eq!(items[0].get("x").unwrap().value, Value::Integer(1));
        let y = items[0].get("y").unwrap();
        assert_eq!((&y.value, y.place), (&text("2"), Place { line: 3, column: 17, file: 0 }));
        assert_eq!((&items[1].value, items[1].place), (&text("30%"), Place { line: 4, column: 5, file: 0 }));
        assert_eq!(root.get("b").unwrap().value, text("yes"));
        assert_eq!(root.get("c").unwrap().value, Value::Float(1.5));
        assert_eq!(entries[3].1.value, text("007"));
    }

    #[test]
    fn json_is_read_the_same_way() {
        let root = parse(&source("{\n\t\"a\": [1, -2, true, null, \"\\u00e4\\n\"]\n}\n")).unwrap();
        let Value::List(items) = &root.get("a").unwrap().value else { panic!() };
        let values: Vec<_> = items.iter().map(|node| node.value.clone()).collect();
        let text = Value::Text("ä\n".to_owned());
        assert_eq!(values, [Value::Integer(1), Value::Integer(-2), Value::Bool(true), Value::Null, text]);
    }

    #[test]
    fn nothing_is_null() {
        for text in ["", "\n\n", "# only a comment\n  # and another"] {
            assert_eq!(parse(&source(text)).unwrap().value, Value::Null, "{text:?}");
        }
    }

    #[test]
    fn malformed_text_is_refused_at_its_place() {
        for (text, line) in [
            ("a: [1, 2\nb: 3\n", 2),
            ("a: \"unclosed\n", 1),
            ("a: 1\n  b: 2\n", 2),
            ("a:\n\t- tab\n", 2),
            ("a: *nowhere\n", 1),
            ("a: 1\n---\nb: 2\n", 2),
            ("base: &b {x: 1}\nd:\n  <<: *b\n", 3),
            ("a: !ruby/object:Evil {}\n", 1),
        ] {
            let finding = fails(text);
            assert_eq!(finding.line, line, "{text:?}: {finding}");
            assert!(finding.column > 0, "{finding}");
            assert!(!finding.message.contains("line "), "{finding}");
        }
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..10 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        let finding = fails(&laughs);
        assert!(finding.line > 0 && finding.message.starts_with("aliases expand"), "{finding}");
        let block: String = (0..300).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        for deep in ["[".repeat(10_000), "{a: ".repeat(10_000), "- ".repeat(10_000), block] {
            let finding = fails(&deep);
            assert!(finding.line > 0 && finding.message == "nested deeper than 32 levels", "{finding}");
        }
        let finding = fails(&format!("[{}]", "1,".repeat(MAX_NODES + 1)));
        assert_eq!((finding.line, finding.message.as_str()), (1, "the file has more than 100000 values"));
        // An anchor that contains itself.
        assert!(fails("a: &a [*a]\n").line > 0);
    }
}
