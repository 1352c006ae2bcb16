//! A reader of BTF, the kernel's description of its own types (Documentation/bpf/btf.rst): just enough to
//! find members, enum values and argument counts. Total on malformed input. It must not know what for.

/// A parsed BTF blob.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    /// Where in `bytes` each type begins; the first is type 1.
    types: Vec<usize>,
    /// Those of them that are looked for by name: one in eight.
    named: Vec<Head>,
    strings: std::ops::Range<usize>,
}

/// Why BTF does not tell what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The blob is not BTF of this byte order, or is damaged.
    #[error("malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in the blob.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel has no such member.
    #[error("this kernel has no {owner}.{member}")]
    NoMember {
        /// Name of the structure.
        owner: String,
        /// Name of the member.
        member: String,
    },
    /// The member does not begin at a byte.
    #[error("{owner}.{member} is a bit field of this kernel")]
    BitField {
        /// Name of the structure.
        owner: String,
        /// Name of the member.
        member: String,
    },
    /// The kernel has no such enum value.
    #[error("this kernel has no {name} in enum {owner}")]
    NoEnumValue {
        /// Name of the enum.
        owner: String,
        /// Name of the value.
        name: String,
    },
    /// The kernel has no such function type.
    #[error("this kernel has no function type {0}")]
    NoFunction(String),
}

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
/// Structures within structures; the kernel's own go about four deep.
const NESTING_MAX: u32 = 16;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// The fixed head of a type.
#[derive(Clone, Copy, Debug)]
struct Head {
    at: usize,
    name: u32,
    kind: u32,
    count: usize,
    kind_flag: bool,
    /// Size, or the type referred to.
    target: u32,
}

impl Btf {
    /// Indexes a blob, as read from `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When it is damaged or of a kind that is not known.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let word = |at: usize| read_u32(&bytes, at);
        let magic = bytes.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed { at: 0, what: "no BTF magic of this byte order" });
        }
        let header = word(4)? as usize;
        if header < HEADER_BYTES {
            return Err(BtfError::Malformed { at: 4, what: "header too short" });
        }
        let types = section(&bytes, header, word(8)?, word(12)?)
            .ok_or(BtfError::Malformed { at: 8, what: "type section out of bounds" })?;
        let strings = section(&bytes, header, word(16)?, word(20)?)
            .ok_or(BtfError::Malformed { at: 16, what: "string section out of bounds" })?;

        let mut btf = Self { bytes, types: Vec::new(), named: Vec::new(), strings };
        let mut at = types.start;
        while at < types.end {
            let head = btf.head(at)?;
            btf.types.push(at);
            if head.name != 0 && matches!(head.kind, kind::STRUCT | kind::UNION | kind::ENUM | kind::TYPEDEF)
            {
                btf.named.push(head);
            }
            at = btf.behind(head)?;
        }
        if at == types.end {
            Ok(btf)
        } else {
            Err(BtfError::Malformed { at, what: "last type runs out of its section" })
        }
    }

    /// Offset in bytes of a member, looked for in anonymous structures and unions too.
    ///
    /// # Errors
    /// When there is none, or when it is a bit field.
    pub fn member_offset(&self, owner: &str, member: &str) -> Result<u32, BtfError> {
        let mut bits = None;
        for head in self.named(&[kind::STRUCT, kind::UNION], owner) {
            bits = self.find_member(head, member.as_bytes(), NESTING_MAX)?;
            if bits.is_some() {
                break;
            }
        }
        let missing = || BtfError::NoMember { owner: owner.to_owned(), member: member.to_owned() };
        let (bits, bit_field) = bits.ok_or_else(missing)?;
        if bit_field || bits % 8 != 0 {
            return Err(BtfError::BitField { owner: owner.to_owned(), member: member.to_owned() });
        }
        Ok(bits / 8)
    }

    /// Value of an enum's constant.
    ///
    /// # Errors
    /// When there is none.
    pub fn enum_value(&self, owner: &str, name: &str) -> Result<u32, BtfError> {
        for head in self.named(&[kind::ENUM], owner) {
            for index in 0..head.count {
                let at = head.at + TYPE_BYTES + index * 8;
                if self.name(read_u32(&self.bytes, at)?) == name.as_bytes() {
                    return read_u32(&self.bytes, at + 4);
                }
            }
        }
        Err(BtfError::NoEnumValue { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Number of arguments of a `typedef void (*name)(…)`.
    ///
    /// # Errors
    /// When there is no such function type.
    pub fn argument_count(&self, typedef: &str) -> Result<usize, BtfError> {
        self.prototype(typedef).map(|proto| proto.count)
    }

    /// Whether an argument of a `typedef void (*name)(…)` is a pointer; false where it has no such argument.
    ///
    /// # Errors
    /// When there is no such function type.
    pub fn argument_is_pointer(&self, typedef: &str, index: usize) -> Result<bool, BtfError> {
        let proto = self.prototype(typedef)?;
        if index >= proto.count {
            return Ok(false);
        }
        let argument = read_u32(&self.bytes, proto.at + TYPE_BYTES + index * 8 + 4)?;
        Ok(self.unqualified(argument).is_some_and(|head| head.kind == kind::PTR))
    }

    fn prototype(&self, typedef: &str) -> Result<Head, BtfError> {
        self.named(&[kind::TYPEDEF], typedef)
            .filter_map(|head| self.by_id(head.target).filter(|pointer| pointer.kind == kind::PTR))
            .find_map(|pointer| self.by_id(pointer.target).filter(|proto| proto.kind == kind::FUNC_PROTO))
            .ok_or_else(|| BtfError::NoFunction(typedef.to_owned()))
    }

    /// Offset in bits of a member, and whether it is a bit field.
    fn find_member(&self, owner: Head, name: &[u8], depth: u32) -> Result<Option<(u32, bool)>, BtfError> {
        for index in 0..owner.count {
            let at = owner.at + TYPE_BYTES + index * 12;
            let member_name = read_u32(&self.bytes, at)?;
            let raw = read_u32(&self.bytes, at + 8)?;
            let (bits, bit_field) =
                if owner.kind_flag { (raw & 0x00ff_ffff, raw >> 24 != 0) } else { (raw, false) };
            if self.name(member_name) == name {
                return Ok(Some((bits, bit_field)));
            }
            if member_name != 0 || depth == 0 {
                continue;
            }
            let Some(inner) = self.unqualified(read_u32(&self.bytes, at + 4)?) else { continue };
            // A structure refers to types before it only by way of pointers, so only damage nests for ever.
            if matches!(inner.kind, kind::STRUCT | kind::UNION)
                && inner.at != owner.at
                && let Some((inside, bit_field)) = self.find_member(inner, name, depth - 1)?
            {
                return Ok(Some((bits.saturating_add(inside), bit_field)));
            }
        }
        Ok(None)
    }

    /// The type behind qualifiers.
    fn unqualified(&self, id: u32) -> Option<Head> {
        let mut head = self.by_id(id)?;
        for _ in 0..NESTING_MAX {
            match head.kind {
                kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG | kind::TYPEDEF => {
                    head = self.by_id(head.target)?;
                }
                _ => return Some(head),
            }
        }
        None
    }

    fn by_id(&self, id: u32) -> Option<Head> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        self.head(*self.types.get(index)?).ok()
    }

    fn named<'a>(&'a self, kinds: &'a [u32], name: &'a str) -> impl Iterator<Item = Head> + 'a {
        let wanted = |head: &&Head| kinds.contains(&head.kind) && self.name(head.name) == name.as_bytes();
        self.named.iter().filter(wanted).copied()
    }

    fn head(&self, at: usize) -> Result<Head, BtfError> {
        let info = read_u32(&self.bytes, at + 4)?;
        Ok(Head {
            at,
            name: read_u32(&self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            count: (info & 0xffff) as usize,
            kind_flag: info >> 31 != 0,
            target: read_u32(&self.bytes, at + 8)?,
        })
    }

    /// Where the next type begins.
    fn behind(&self, head: Head) -> Result<usize, BtfError> {
        let body = match head.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => head.count * 12,
            kind::ENUM | kind::FUNC_PROTO => head.count * 8,
            0 => return Err(BtfError::Malformed { at: head.at, what: "type of kind 0" }),
            // Pointers, forwards, typedefs, qualifiers, functions, floats: a head alone.
            known if known < 20 => 0,
            _ => return Err(BtfError::Malformed { at: head.at, what: "type of unknown kind" }),
        };
        let end = head.at + TYPE_BYTES + body;
        if end <= self.bytes.len() {
            Ok(end)
        } else {
            Err(BtfError::Malformed { at: head.at, what: "type runs out of the blob" })
        }
    }

    /// A name; empty when its offset is out of bounds.
    fn name(&self, offset: u32) -> &[u8] {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        let from = strings.get(offset as usize..).unwrap_or_default();
        agent_common::text::until_nul(from)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) => Ok(u32::from_ne_bytes(*word)),
        None => Err(BtfError::Malformed { at, what: "blob ends here" }),
    }
}

fn section(bytes: &[u8], header: usize, offset: u32, length: u32) -> Option<std::ops::Range<usize>> {
    let start = header.checked_add(usize::try_from(offset).ok()?)?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes BTF for tests.
    #[derive(Default)]
    pub(in crate::source) struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn string(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if text.is_empty() {
                return 0;
            }
            let at = self.strings.len();
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
            at.try_into().unwrap()
        }

        pub(in crate::source) fn add(
            mut self,
            name: &str,
            kind: u32,
            flag: bool,
            target: u32,
            body: &[(&str, u32, u32)],
        ) -> Self {
            let name = self.string(name);
            let info = kind << 24 | u32::from(flag) << 31 | u32::try_from(body.len()).unwrap();
            for word in [name, info, target] {
                self.types.extend(word.to_ne_bytes());
            }
            for &(name, second, third) in body {
                let name = self.string(name);
                let words = [name, second, third];
                let used = if matches!(kind, kind::STRUCT | kind::UNION) { 3 } else { 2 };
                for word in &words[..used] {
                    self.types.extend(word.to_ne_bytes());
                }
            }
            self
        }

        pub(in crate::source) fn build(self) -> Vec<u8> {
            let (types, strings) =
                (u32::try_from(self.types.len()).unwrap(), u32::try_from(self.strings.len()).unwrap());
            let mut blob = Vec::new();
            blob.extend(MAGIC.to_ne_bytes());
            blob.extend([1, 0]);
            for word in [24, 0, types, types, strings] {
                blob.extend(word.to_ne_bytes());
            }
            blob.extend(self.types);
            blob.extend(self.strings);
            blob
        }
    }

    /// 1: struct inner (anonymous); 2: const 1; 3: struct task { a, <2>, flag:1 }; 4: enum; 5..7: typedef.
    fn sample() -> Vec<u8> {
        Builder::default()
            .add("", kind::STRUCT, false, 8, &[("deep", 0, 32)])
            .add("", kind::CONST, false, 1, &[])
            .add("task", kind::STRUCT, true, 24, &[("a", 0, 0), ("", 2, 64), ("flag", 0, 1 << 24 | 130)])
            .add("ids", kind::ENUM, false, 4, &[("zero", 0, 0), ("cpu", 5, 0)])
            .add("", kind::FUNC_PROTO, false, 0, &[("", 0, 0), ("", 3, 0), ("", 3, 0)])
            .add("", kind::PTR, false, 5, &[])
            .add("hook", kind::TYPEDEF, false, 6, &[])
            .build()
    }

    #[test]
    fn finds_what_there_is() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.member_offset("task", "a"), Ok(0));
        assert_eq!(btf.member_offset("task", "deep"), Ok(12), "through an anonymous const structure");
        assert_eq!(btf.enum_value("ids", "cpu"), Ok(5));
        assert_eq!(btf.argument_count("hook"), Ok(3));
        let pointers: Vec<_> = (0..4).map(|index| btf.argument_is_pointer("hook", index)).collect();
        assert!(pointers.iter().all(|found| *found == Ok(false)), "void, structures, and none");
    }

    #[test]
    fn names_what_is_missing() {
        let btf = Btf::parse(sample()).unwrap();
        let error = btf.member_offset("task", "start_boottime").unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no task.start_boottime");
        assert!(matches!(btf.member_offset("tusk", "a"), Err(BtfError::NoMember { .. })));
        assert!(matches!(btf.member_offset("task", "flag"), Err(BtfError::BitField { .. })));
        assert!(matches!(btf.enum_value("ids", "gpu"), Err(BtfError::NoEnumValue { .. })));
        assert!(matches!(btf.argument_count("task"), Err(BtfError::NoFunction(_))));
    }

    #[test]
    fn damage_is_an_error_or_a_missing_name_never_a_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            let cut = Btf::parse(whole[..length].to_vec());
            assert!(matches!(cut, Err(BtfError::Malformed { .. })), "cut at {length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = whole.clone();
                bad[at] = value;
                probe(bad);
            }
        }
        let own_member = Builder::default().add("task", kind::STRUCT, false, 8, &[("", 1, 0)]).build();
        probe(own_member);
        let each_other = Builder::default()
            .add("", kind::STRUCT, false, 8, &[("", 2, 0)])
            .add("task", kind::STRUCT, false, 8, &[("", 1, 0)])
            .build();
        probe(each_other);
    }

    fn probe(bytes: Vec<u8>) {
        if let Ok(btf) = Btf::parse(bytes) {
            for member in ["a", "deep", "flag", "none"] {
                let _found = btf.member_offset("task", member);
            }
            let _found = btf.enum_value("ids", "cpu");
            let _found = btf.argument_count("hook");
            let _found = btf.argument_is_pointer("hook", 1);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_header(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut blob = MAGIC.to_ne_bytes().to_vec();
            blob.extend([1, 0]);
            let half = u32::try_from(body.len() / 2).unwrap();
            for word in [24, 0, half, half, half] {
                blob.extend(word.to_ne_bytes());
            }
            blob.extend(body);
            probe(blob);
        }
    }
}
