//! The kinds of changes, and their names in the store, which never change.

use crate::model::attribute::Attribute;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A value in a cgroup's file: `path` is the file, `item` the part of it.
    File,
    /// An attribute of a thread, or of a process.
    Attribute(Attribute),
    /// The cgroup of a process: `path` is the one it is moved to, `prior` the one it came from.
    Membership,
    /// A cgroup that we make: `path`.
    CreatedDir,
    /// A controller, `item`, that we enable in the `cgroup.subtree_control` of `path`.
    EnabledController,
    /// A property of a systemd unit: `item` is unit and property, `path` the drop-in in which systemd keeps it.
    /// `prior` is the value, and after a line break what was in the drop-in if there was one.
    UnitProperty,
    /// A systemd unit that we make, `item`; `path` is its cgroup.
    TransientUnit,
}

impl Kind {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Attribute(attribute) => attribute.as_str(),
            Self::Membership => "membership",
            Self::CreatedDir => "created_dir",
            Self::EnabledController => "enabled_controller",
            Self::UnitProperty => "unit_property",
            Self::TransientUnit => "transient_unit",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        const REST: [Kind; 6] = [
            Kind::File,
            Kind::Membership,
            Kind::CreatedDir,
            Kind::EnabledController,
            Kind::UnitProperty,
            Kind::TransientUnit,
        ];
        let attributes = Attribute::ALL.into_iter().map(Kind::Attribute);
        REST.into_iter().chain(attributes).find(|kind| kind.text() == text)
    }
}
