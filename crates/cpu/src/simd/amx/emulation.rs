//! AMX for tests on processors without it: its instructions raise a signal, whose handler does what each of them
//! does, on tiles of its own. So the very instructions that a processor with AMX runs are run, decoded from memory.
//!
//! Encodings and meanings are those of Intel's "Architecture Instruction Set Extensions Programming Reference".

use std::cell::UnsafeCell;
use std::sync::OnceLock;

use half::f16;
use libc::{REG_R8, REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP};
use libc::{c_int, c_void, siginfo_t, ucontext_t};

use crate::element::Float;

const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

/// One thread's tiles.
struct Tiles {
    configured: bool,
    rows: [[[u8; ROW_BYTES]; ROWS]; 8],
}

thread_local! {
    // Made with the thread and never dropped, so that a signal handler may use it.
    static TILES: UnsafeCell<Tiles> =
        const { UnsafeCell::new(Tiles { configured: false, rows: [[[0; ROW_BYTES]; ROWS]; 8] }) };
}

/// Handles the signals of AMX instructions from now on. False if the system refuses.
pub(crate) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: all zeros are a valid `sigaction`, and the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()) == 0
        }
    })
}

extern "C" fn handle(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system passes the interrupted thread's context. The instruction at its `rip` is one that the
    // processor has read, so that as many bytes as it has can be read. Its operands are memory that it would access
    // itself. No other reference to this thread's tiles exists while it is interrupted.
    unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        let code = registers[REG_RIP as usize] as *const u8;
        let done = TILES.with(|tiles| emulate(&mut *tiles.get(), code, registers));
        match done {
            Some(length) => registers[REG_RIP as usize] += length as i64,
            // Not ours: the instruction is run again, and ends the process as it would have.
            None => {
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// Does what the instruction at `code` does, and gives its length; `None` if it is none of AMX.
///
/// # Safety
///
/// `code` must be an instruction, and what it accesses memory that it may access.
unsafe fn emulate(tiles: &mut Tiles, code: *const u8, registers: &[i64; 23]) -> Option<usize> {
    // SAFETY: bytes of the instruction, as the caller vouches; later ones are read only once the earlier ones say
    // that there are more.
    let byte = |index: usize| unsafe { *code.add(index) };
    // VEX in three bytes: map 0F 38, W = 0, 128 bits.
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let (extension, prefix) = (!byte(1) >> 5, byte(2) & 3);
    let third = usize::from(!byte(2) >> 3 & 15);
    let (opcode, modrm) = (byte(3), byte(4));
    let (in_register, reg, rm) = (modrm >> 6 == 3, usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
    match (opcode, prefix, in_register) {
        // tilerelease
        (0x49, 0, true) if modrm == 0xc0 => {
            tiles.configured = false;
            Some(5)
        }
        // tilezero
        (0x49, 3, true) if tiles.configured => {
            tiles.rows[reg] = [[0; ROW_BYTES]; ROWS];
            Some(5)
        }
        // ldtilecfg
        (0x49, 0, false) => {
            // SAFETY: as the caller vouches.
            let (address, _, length) = unsafe { operand(code, extension, registers) };
            // SAFETY: the operand is 64 bytes, which the instruction may read.
            let configuration = unsafe { &*(address as *const [u8; 64]) };
            let all_used = configuration[16..32].chunks(2).all(|bytes| bytes == [64, 0])
                && configuration[48..56].iter().all(|&rows| rows == 16);
            tiles.configured = configuration[0] == 1 && configuration[1] == 0 && all_used;
            tiles.rows = [[[0; ROW_BYTES]; ROWS]; 8];
            Some(length)
        }
        // tileloadd, tilestored
        (0x4b, 3 | 2, false) if rm == 4 && tiles.configured => {
            // SAFETY: as the caller vouches.
            let (address, stride, length) = unsafe { operand(code, extension, registers) };
            for (i, row) in tiles.rows[reg].iter_mut().enumerate() {
                let address = address.wrapping_add(stride.wrapping_mul(i as i64));
                // SAFETY: the instruction accesses these 64 bytes, which may be aligned in any way.
                unsafe {
                    if prefix == 3 {
                        *row = std::ptr::read_unaligned(address as *const [u8; ROW_BYTES]);
                    } else {
                        std::ptr::write_unaligned(address as *mut [u8; ROW_BYTES], *row);
                    }
                }
            }
            Some(length)
        }
        // tdpbf16ps
        (0x5c, 2, true) if tiles.configured => {
            let (a, b) = (tiles.rows[rm], tiles.rows[third & 7]);
            dot_product(&mut tiles.rows[reg], &a, &b, |bytes| {
                flushed(f32::from_bits(u32::from_le_bytes([0, 0, bytes[0], bytes[1]])))
            });
            Some(5)
        }
        // tdpfp16ps
        (0x5c, 3, true) if tiles.configured => {
            let (a, b) = (tiles.rows[rm], tiles.rows[third & 7]);
            dot_product(&mut tiles.rows[reg], &a, &b, |bytes| f16::from_le_bytes(bytes).wide());
            Some(5)
        }
        _ => None,
    }
}

/// The address, the index register and the end of an operand `[base + index·scale + displacement]`.
///
/// # Safety
///
/// `code` must be an instruction with such an operand at its fifth byte.
unsafe fn operand(code: *const u8, extension: u8, registers: &[i64; 23]) -> (i64, i64, usize) {
    // SAFETY: bytes of the instruction, as the caller vouches.
    let byte = |index: usize| unsafe { *code.add(index) };
    let register = |number: u8| {
        let low = [REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI];
        let place =
            if number < 8 { low[number as usize] as usize } else { REG_R8 as usize + number as usize - 8 };
        registers[place]
    };
    let (modrm, base_extension, index_extension) = (byte(4), (extension & 1) << 3, (extension >> 1 & 1) << 3);
    let mut at = 5;
    let (mut base, mut stride) = (modrm & 7, 0);
    if base == 4 {
        let sib = byte(at);
        at += 1;
        base = sib & 7;
        let index = sib >> 3 & 7 | index_extension;
        stride = if index == 4 { 0 } else { register(index) << (sib >> 6) };
    }
    let (displacement, length) = match modrm >> 6 {
        0 if base == 5 => unreachable_operand(),
        0 => (0, 0),
        1 => (i64::from(byte(at) as i8), 1),
        _ => (i64::from(i32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)])), 4),
    };
    (register(base | base_extension).wrapping_add(displacement), stride, at + length)
}

/// Operands relative to `rip` or without a base, which are not used with tiles here.
fn unreachable_operand() -> ! {
    std::process::abort()
}

/// `tdpbf16ps` and `tdpfp16ps`: for each row of `a` and each column of `b`, the even and the odd terms are added up apart,
/// then together, then to what is there. `number` reads an element.
fn dot_product(
    c: &mut [[u8; ROW_BYTES]; ROWS],
    a: &[[u8; ROW_BYTES]; ROWS],
    b: &[[u8; ROW_BYTES]; ROWS],
    number: impl Fn([u8; 2]) -> f32,
) {
    let numbers = |tile: &[[u8; ROW_BYTES]; ROWS]| {
        tile.map(|row| {
            let mut numbers = [0.0f32; ROW_BYTES / 2];
            for (to, &bytes) in numbers.iter_mut().zip(row.as_chunks::<2>().0) {
                *to = number(bytes);
            }
            numbers
        })
    };
    let (a, b) = (numbers(a), numbers(b));
    for (c, a) in c.iter_mut().zip(&a) {
        let mut sums = [0.0f32; ROW_BYTES / 2];
        for (pair, b) in a.as_chunks::<2>().0.iter().zip(&b) {
            for (sums, b) in sums.as_chunks_mut::<2>().0.iter_mut().zip(b.as_chunks::<2>().0) {
                // The product of two such numbers is an fp32 number, so this rounds once.
                sums[0] = flushed(sums[0] + pair[0] * b[0]);
                sums[1] = flushed(sums[1] + pair[1] * b[1]);
            }
        }
        for (bytes, sums) in c.as_chunks_mut::<4>().0.iter_mut().zip(sums.as_chunks::<2>().0) {
            let sum = flushed(sums[0] + sums[1]);
            *bytes = flushed(flushed(f32::from_le_bytes(*bytes)) + sum).to_le_bytes();
        }
    }
}

/// Subnormal numbers count as 0, before and after an operation.
#[inline(always)]
fn flushed(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(value) } else { value }
}
