// SPDX-License-Identifier: GPL-2.0

//! From QEMU's entry (PVH: 32-bit protected mode without paging) and from SIPI's (real mode) to
//! 64-bit mode, and the entry points of exceptions and interrupts.
//!
//! All memory below 4 GiB has the same virtual address, and ring 3 may use it, too.

use core::arch::global_asm;

/// The selector of the kernel's code.
pub(crate) const KERNEL_CODE: u64 = 0x08;
/// The selector of the kernel's data.
pub(crate) const KERNEL_DATA: u64 = 0x10;

/// Where the second CPU begins: page 8, as its SIPI says.
pub(crate) const TRAMPOLINE: u64 = 0x8000;
/// The page number in the SIPI.
pub(crate) const TRAMPOLINE_VECTOR: u64 = TRAMPOLINE >> 12;

extern "C" {
    /// Where the 16-bit code of the second CPU begins.
    pub(crate) static trampoline_start: u8;
    /// Where it ends.
    pub(crate) static trampoline_end: u8;
    /// The code of the interrupt entry points, 16 bytes each.
    pub(crate) static vector_stubs: u8;
    /// An instruction for ring 3 that is a hypercall.
    pub(crate) static user_vmcall: u8;
    /// An instruction for ring 3 that reads an MSR.
    pub(crate) static user_rdmsr: u8;
}

global_asm!(
    r#"
    # XEN_ELFNOTE_PHYS32_ENTRY, see QEMU's hw/i386/x86-common.c, read_pvh_start_addr()
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry

    .section .text
    .code32
    .globl pvh_entry
pvh_entry:
    cld
    movl %ebx, %edi                 # struct hvm_start_info
    # 2048 pages of 2 MiB, present, writable, user
    movl $page_directories, %ecx
    movl $0x87, %eax
1:  movl %eax, (%ecx)
    movl $0, 4(%ecx)
    addl $8, %ecx
    addl $0x200000, %eax
    jnc 1b
    movl $page_directories + 0x7, %eax
    movl $pdpt, %ecx
    movl $4, %edx
2:  movl %eax, (%ecx)
    addl $4096, %eax
    addl $8, %ecx
    decl %edx
    jnz 2b
    movl $pdpt + 0x7, pml4
    lgdt gdt_pointer
    movl $1, %esi                   # the first CPU
    jmp enter_long_mode

    # ESI: 1 for the first CPU; EDI: its argument
enter_long_mode:
    movl %cr4, %eax
    orl $0x620, %eax                # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          # EFER
    rdmsr
    orl $0x100, %eax                # LME
    wrmsr
    movl %cr0, %eax
    andl $~0x4, %eax                # no EM
    orl $0x80000003, %eax           # PG, MP, PE
    movl %eax, %cr0
    ljmp $0x08, $long_mode

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    testl %esi, %esi
    jz 1f
    leaq first_stack_top(%rip), %rsp
    call first_cpu
1:  leaq second_stack_top(%rip), %rsp
    call second_cpu
    ud2

    # copied to TRAMPOLINE; CS is its page
    .code16
    .globl trampoline_start, trampoline_end
trampoline_start:
    cli
    lgdtl %cs:(trampoline_gdt_pointer - trampoline_start)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $trampoline_protected
    .balign 8
trampoline_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

    .code32
trampoline_protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %esi, %esi
    jmp enter_long_mode

    .code64
    # Every vector: push it, so that all frames look the same
    .balign 16
    .globl vector_stubs
vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    pushq $vector
    jmp interrupt_entry
    .set vector, vector + 1
    .endr

    # The CPU has aligned the stack before it pushed a frame of 5 or 6 words, so
    # the alignment tells an exception's frame with an error code from all others,
    # also for vectors that an interrupt has used without being that exception.
interrupt_entry:
    testb $8, %spl
    jnz 1f
    pushq (%rsp)
    movq $-1, 8(%rsp)
1:  pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    subq $512, %rsp
    fxsave64 (%rsp)
    call interrupt_handler
    fxrstor64 (%rsp)
    addq $512, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    # u64 try_rdmsr(u32 msr, u64 *value): the exception's vector, or 0
    .globl try_rdmsr, try_wrmsr, try_vmcall, try_vmmcall, try_in_user_mode
try_rdmsr:
    movl %edi, %ecx
at_rdmsr:
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, (%rsi)
    xorl %eax, %eax
    ret

    # u64 try_wrmsr(u32 msr, u64 value)
try_wrmsr:
    movl %edi, %ecx
    movl %esi, %eax
    movq %rsi, %rdx
    shrq $32, %rdx
at_wrmsr:
    wrmsr
    xorl %eax, %eax
    ret

    # u64 try_vmcall(u64 control, u64 input, u64 output, u64 *result)
try_vmcall:
    movq %rcx, %r9
    movq %rdi, %rcx
    movq %rdx, %r8
    movq %rsi, %rdx
at_vmcall:
    vmcall
    movq %rax, (%r9)
    xorl %eax, %eax
    ret

try_vmmcall:
    movq %rcx, %r9
    movq %rdi, %rcx
    movq %rdx, %r8
    movq %rsi, %rdx
at_vmmcall:
    vmmcall
    movq %rax, (%r9)
    xorl %eax, %eax
    ret

    # u64 try_in_user_mode(void *instruction): the exception's vector
try_in_user_mode:
    movq %rsp, stack_of_ring_0(%rip)
    pushq $0x23
    pushq %rsp
    pushfq
    andl $~0x200, (%rsp)
    pushq $0x2b
    pushq %rdi
    iretq

    .globl user_vmcall, user_rdmsr
user_vmcall:
    vmcall
    int3
user_rdmsr:
    rdmsr
    int3

    # where the handler goes on after an exception under test: vector in RAX
    .globl after_exception
after_exception:
    ret

    .section .rodata
    .balign 8
    .globl tested_instructions
tested_instructions:
    .quad at_rdmsr, at_wrmsr, at_vmcall, at_vmmcall, 0

    .section .data
    .balign 16
    .globl gdt, gdt_end
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 08: 64-bit code
    .quad 0x00cf93000000ffff        # 10: data
    .quad 0x00cf9b000000ffff        # 18: 32-bit code, for the trampoline
    .quad 0x00cff3000000ffff        # 20: ring 3's data
    .quad 0x00affb000000ffff        # 28: ring 3's 64-bit code
    .quad 0, 0, 0, 0                # 30, 40: task states
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .section .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
page_directories:
    .skip 4 * 4096
    .skip 65536
first_stack_top:
    .skip 65536
second_stack_top:
    .globl stack_of_ring_0
stack_of_ring_0:
    .skip 8
"#,
    options(att_syntax)
);

/// The C library's functions that the compiler takes for granted.
mod libc {
    use core::arch::asm;

    /// Copy forwards.
    #[no_mangle]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        // SAFETY: the caller gives two buffers of that size; the instruction touches nothing else.
        unsafe {
            asm!("rep movsb", inout("rcx") bytes => _, inout("rdi") to => _, inout("rsi") from => _,
                 options(nostack, preserves_flags));
        }
        to
    }

    /// Copy in the direction that overlapping buffers need.
    #[no_mangle]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        if (to as usize).wrapping_sub(from as usize) >= bytes {
            // SAFETY: the caller's own promise; going forwards reads everything before it is overwritten.
            return unsafe { memcpy(to, from, bytes) };
        }
        // SAFETY: as above, but from the last byte down; the direction flag is clear again afterwards.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") bytes => _,
                 inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
                 inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _, options(nostack));
        }
        to
    }

    /// Fill with one byte.
    #[no_mangle]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
        // SAFETY: the caller gives a buffer of that size; the instruction touches nothing else.
        unsafe {
            asm!("rep stosb", inout("rcx") bytes => _, inout("rdi") to => _, in("al") byte.to_le_bytes()[0],
                 options(nostack, preserves_flags));
        }
        to
    }

    /// Compare bytes.
    #[no_mangle]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
        for i in 0..bytes {
            // SAFETY: the caller gives two buffers of that size. Volatile, lest this become a memcmp.
            let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
            if x != y {
                return i32::from(x) - i32::from(y);
            }
        }
        0
    }

    /// Compare bytes for equality.
    #[no_mangle]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
        // SAFETY: the caller's own promise.
        unsafe { memcmp(a, b, bytes) }
    }
}
