//! What the mount table tells of a container: where the layers of its root are kept on the host, and from where the
//! runtime has put its own `/etc/hostname`. Mounts elsewhere are those of containers that this host runs, and say
//! nothing.

use super::{Place, Sign, shown};
use crate::model::container::Runtime;

/// Files that runtimes mount into their containers, from a directory that has the container's id in its name.
const GIVEN: [&[u8]; 4] = [b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf", b"/dev/termination-log"];

/// Directories on the host, and whose they are. More telling ones first.
const KEPT: [(&[u8], Runtime); 6] = [
    (b"/kubelet/pods/", Runtime::Kubernetes),
    (b"/docker/containers/", Runtime::Docker),
    (b"/docker/overlay2/", Runtime::Docker),
    (b"/containers/storage/overlay-containers/", Runtime::Podman),
    (b"/containers/storage/overlay/", Runtime::Podman),
    (b"/io.containerd.snapshotter", Runtime::Containerd),
];

/// Signs in the text of `/proc/self/mountinfo`: one of each runtime at most.
pub(super) fn signs(mountinfo: &[u8]) -> Vec<Sign> {
    let mut signs: Vec<Sign> = Vec::new();
    for found in mountinfo.split(|byte| *byte == b'\n').filter_map(sign) {
        match signs.iter_mut().find(|sign| sign.runtime == found.runtime) {
            Some(known) if known.id.is_none() => *known = found,
            Some(_) => {}
            None => signs.push(found),
        }
    }
    signs
}

fn sign(line: &[u8]) -> Option<Sign> {
    // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE SUPER (proc_pid_mountinfo(5)).
    let mut fields = line.split(|byte| *byte == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    let told = if GIVEN.contains(&point) {
        root
    } else if point == b"/" {
        fields.find(|field| *field == b"-")?;
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        if kind != b"overlay" { root } else { options }
    } else if point.starts_with(b"/var/run/secrets/kubernetes.io/")
        || point.starts_with(b"/run/secrets/kubernetes.io/")
    {
        return Some(Sign {
            place: Place::Mount,
            runtime: Runtime::Kubernetes,
            says: shown(point),
            id: None,
        });
    } else {
        return None;
    };
    let (kept, runtime) = KEPT.iter().find(|(kept, _)| find(told, kept).is_some())?;
    let at = find(told, kept)?;
    let after = told.get(at + kept.len()..)?.split(|byte| *byte == b'/').next()?;
    let id = GIVEN.contains(&point) && after.len() == 64 && after.iter().all(u8::is_ascii_hexdigit);
    Some(Sign {
        place: Place::Mount,
        runtime: *runtime,
        says: format!("{} from {}", shown(point), shown(told)),
        id: id.then(|| shown(after)),
    })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
