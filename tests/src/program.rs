//! Programs of a hundred bytes, written when needed: static ELF files that exit, wait or spin.
//!
//! Their comm is their file name, which makes them match a rule; they start as fast as a program can, so that
//! storms of them measure the kernel and the agent instead of a dynamic linker.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Exits at once with this code.
    Exit(u8),
    /// Waits for a signal that kills it.
    Wait,
    /// Waits for its standard input to end or to bring a byte, then exits with this code.
    ReadThenExit(u8),
    /// Uses as much CPU as it gets.
    Spin,
    /// Sleeps for 2 ms and works for about one, again and again, as who serves requests does.
    Serve,
    /// Has its parent trace it (ptrace(2)), then waits: every signal but SIGKILL stops it for the parent to look at.
    Traced,
    /// Starts a second thread, which waits; then its first thread ends alone, and the process lives on.
    LeaderEnds,
}

impl Program {
    /// Writes the program as `dir/name`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(self, dir: &Path, name: &str) -> Result<PathBuf> {
        write_executable(dir, name, &elf(&self.code()))
    }

    #[cfg(target_arch = "x86_64")]
    fn code(self) -> Vec<u8> {
        match self {
            // mov edi, code; mov eax, 231 (exit_group); syscall
            Self::Exit(code) => vec![0xbf, code, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05],
            // mov eax, 34 (pause); syscall; jmp to the start
            Self::Wait => vec![0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7],
            // jmp to itself
            Self::Spin => vec![0xeb, 0xfe],
            // push 2000000 (tv_nsec); push 0 (tv_sec); mov rdi, rsp; xor esi, esi;
            // mov eax, 35 (nanosleep); syscall; mov ecx, 3000000; dec ecx; jnz to the dec; jmp to the mov of eax
            Self::Serve => vec![
                0x68, 0x80, 0x84, 0x1e, 0x00, 0x6a, 0x00, 0x48, 0x89, 0xe7, 0x31, 0xf6, 0xb8, 35, 0, 0, 0,
                0x0f, 0x05, 0xb9, 0xc0, 0xc6, 0x2d, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xeb, 0xee,
            ],
            // mov eax, 101 (ptrace); xor edi, edi (PTRACE_TRACEME); syscall; then wait
            Self::Traced => [&[0xb8, 101, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05][..], &Self::Wait.code()].concat(),
            // mov edi, 0x50f00 (CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM); lea rsi, [rsp-4096]; xor edx, edx;
            // xor r10d, r10d; xor r8d, r8d; mov eax, 56 (clone); syscall; test eax, eax; jz over the next three;
            // mov eax, 60 (exit); xor edi, edi; syscall; then wait
            Self::LeaderEnds => [
                &[
                    0xbf, 0x00, 0x0f, 0x05, 0x00, 0x48, 0x8d, 0xb4, 0x24, 0x00, 0xf0, 0xff, 0xff, 0x31, 0xd2,
                    0x45, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0xb8, 56, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x74,
                    0x09, 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05,
                ][..],
                &Self::Wait.code(),
            ]
            .concat(),
            // xor eax, eax (read); xor edi, edi; lea rsi, [rsp-16]; mov edx, 1; syscall; then exit
            Self::ReadThenExit(code) => {
                let read =
                    [0x31, 0xc0, 0x31, 0xff, 0x48, 0x8d, 0x74, 0x24, 0xf0, 0xba, 1, 0, 0, 0, 0x0f, 0x05];
                [&read[..], &Self::Exit(code).code()].concat()
            }
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn code(self) -> Vec<u8> {
        let words: Vec<u32> = match self {
            // mov x0, code; mov x8, 94 (exit_group); svc 0
            Self::Exit(code) => vec![0xd280_0000 | u32::from(code) << 5, 0xd280_0bc8, 0xd400_0001],
            // mov x0..x3, 0; mov x8, 73 (ppoll); svc 0; b to the start
            Self::Wait => vec![
                0xd280_0000,
                0xd280_0001,
                0xd280_0002,
                0xd280_0003,
                0xd280_0004,
                0xd280_0928,
                0xd400_0001,
                0x17ff_fff9,
            ],
            // b to itself
            Self::Spin => vec![0x1400_0000],
            // mov x9, 2000000 in two; stp xzr, x9, [sp, -16]!; mov x0, sp; mov x1, 0; mov x8, 101 (nanosleep);
            // svc 0; mov x9, 3000000 in two; subs x9, x9, 1; b.ne to the subs; b to the mov of x0
            Self::Serve => vec![
                0xd290_9009,
                0xf2a0_03c9,
                0xa9bf_27ff,
                0x9100_03e0,
                0xd280_0001,
                0xd280_0ca8,
                0xd400_0001,
                0xd298_d809,
                0xf2a0_05a9,
                0xf100_0529,
                0x54ff_ffe1,
                0x17ff_fff8,
            ],
            // mov x0, 0 (PTRACE_TRACEME); mov x8, 117 (ptrace); svc 0; then wait
            Self::Traced => {
                let trace: [u32; 3] = [0xd280_0000, 0xd280_0ea8, 0xd400_0001];
                return [trace.into_iter().flat_map(u32::to_le_bytes).collect(), Self::Wait.code()].concat();
            }
            // mov x0, 0x50f00 in two; sub x1, sp, 4096; mov x2..x4, 0; mov x8, 220 (clone); svc 0; cbz x0 over the next
            // three; mov x0, 0; mov x8, 93 (exit); svc 0; then wait
            Self::LeaderEnds => {
                let ends: [u32; 12] = [
                    0xd281_e000,
                    0xf2a0_00a0,
                    0xd140_07e1,
                    0xd280_0002,
                    0xd280_0003,
                    0xd280_0004,
                    0xd280_1b88,
                    0xd400_0001,
                    0xb400_0080,
                    0xd280_0000,
                    0xd280_0ba8,
                    0xd400_0001,
                ];
                return [ends.into_iter().flat_map(u32::to_le_bytes).collect(), Self::Wait.code()].concat();
            }
            // mov x0, 0; sub x1, sp, 16; mov x2, 1; mov x8, 63 (read); svc 0; then exit
            Self::ReadThenExit(code) => {
                let read: [u32; 5] = [0xd280_0000, 0xd100_43e1, 0xd280_0022, 0xd280_07e8, 0xd400_0001];
                return [read.into_iter().flat_map(u32::to_le_bytes).collect(), Self::Exit(code).code()]
                    .concat();
            }
        };
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// Writes an executable file as `dir/name`, for all to read and execute.
///
/// # Errors
/// When it cannot be written.
pub fn write_executable(dir: &Path, name: &str, content: &[u8]) -> Result<PathBuf> {
    let path = dir.join(name);
    let context = || format!("write program {}", path.display());
    // By a process of its own: another thread of this one may fork while the file is open for writing, and until that
    // child becomes another program, nobody can execute the file (ETXTBSY).
    let mut writer = Command::new("/bin/sh")
        .args(["-c", r#"exec cat >"$0""#])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(context)?;
    let written = writer.stdin.take().context("its standard input")?.write_all(content);
    let ended = writer.wait().with_context(context)?;
    written.with_context(context)?;
    ensure!(ended.success(), "write program {}: {ended}", path.display());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(context)?;
    Ok(path)
}

/// Copies an executable file to `dir/name`.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy_executable(from: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
    let content = fs::read(from).with_context(|| format!("read program {}", from.display()))?;
    write_executable(dir, name, &content)
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
/// Where the file is mapped: anywhere above `vm.mmap_min_addr`.
const BASE: u64 = 0x40_0000;

/// An ELF64 executable (elf(5)) with one read-execute segment: the whole file.
fn elf(code: &[u8]) -> Vec<u8> {
    let entry = BASE + u64::from(ELF_HEADER + PROGRAM_HEADER);
    let size = u64::from(ELF_HEADER + PROGRAM_HEADER) + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [2, MACHINE] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for word in [entry, u64::from(ELF_HEADER), 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [ELF_HEADER, PROGRAM_HEADER, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD, PF_R | PF_X
    for word in [1u32, 5] {
        file.extend(word.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::clock::{SOON, wait_until};

    #[test]
    fn the_exit_program_runs_and_exits_with_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let path = Program::Exit(7).write(dir.path(), "pt-exit").unwrap();
        assert_eq!(Command::new(path).status().unwrap().code(), Some(7));
    }

    #[test]
    fn the_reading_program_ends_with_its_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = Program::ReadThenExit(9).write(dir.path(), "pt-read").unwrap();
        let mut child = Command::new(path).stdin(Stdio::piped()).spawn().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }

    #[test]
    fn a_process_lives_on_without_its_leader() {
        let dir = tempfile::tempdir().unwrap();
        let path = Program::LeaderEnds.write(dir.path(), "pt-leader").unwrap();
        let mut child = Command::new(path).spawn().unwrap();
        // A leader that has ended is a zombie until the other threads have.
        let ended = wait_until("its leader ends", SOON, || Ok(crate::kernel::stat(child.id())?.state == 'Z'));
        let alive = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        ended.unwrap();
        assert!(alive);
    }

    #[test]
    fn the_waiting_program_waits_until_it_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = Program::Wait.write(dir.path(), "pt-wait").unwrap();
        let mut child = Command::new(path).spawn().unwrap();
        // The parent may go on a moment before the new program has its name.
        let named =
            wait_until(
                "the program has its name",
                SOON,
                || Ok(crate::kernel::comm(child.id())? == "pt-wait"),
            );
        child.kill().unwrap();
        let status = child.wait().unwrap();
        named.unwrap();
        assert_eq!(status.code(), None);
    }
}
