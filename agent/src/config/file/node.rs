//! A parsed file as a tree in which every value knows its place. Repeated keys are kept, to be reported.

/// A place in a file, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Which of the files that a tree was merged from, by its number in the source; 0 for the tree's own.
    pub file: u8,
}

/// A value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it starts. For an alias: where the value is defined.
    pub place: Place,
}

/// What YAML and JSON can say.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`; the spellings of YAML 1.1 (`yes`, `on`) are texts.
    Bool(bool),
    /// An integer.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A text, or anything quoted.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file, repeated keys included.
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// The kind of value in words, for error messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The value of a key, of a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, v)| v)
    }

    /// The text, of a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// Says of the whole tree that it comes from this file of its source.
    pub fn set_file(&mut self, file: u8) {
        self.place.file = file;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.set_file(file)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    key.set_file(file);
                    value.set_file(file);
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
        }
    }

    /// Whether two trees say the same, wherever they stand.
    #[must_use]
    pub fn says(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(one), Value::List(other)) => alike(one, other),
            (Value::Map(one), Value::Map(other)) => {
                let pair = |((k, v), (l, w)): (&(Self, Self), &(Self, Self))| k.says(l) && v.says(w);
                one.len() == other.len() && one.iter().zip(other).all(pair)
            }
            (one, other) => one == other,
        }
    }
}

/// Whether two lists say the same.
#[must_use]
pub fn alike(one: &[Node], other: &[Node]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.says(other))
}
