/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * icount: count the instructions of a guest between two marks of its own
 *
 * A plugin for an emulated x86 machine.  A program in the guest marks the
 * beginning and the end of a window with two instructions that do nothing,
 * in user mode:
 *
 *   0f 1f 80 56 4d 42 31   nopl 0x31424d56(%rax)   a window begins ("VMB1")
 *   0f 1f 80 56 4d 42 32   nopl 0x32424d56(%rax)   it ends ("VMB2")
 *
 * Since the guest marks it, a window is the same instructions in every run in
 * which the guest does the same.
 *
 *   -plugin libicount.so,windows=PATH
 *
 * When a window ends, a line is added to PATH, which is made new:
 *
 *   {"kernel":N,"user":N,"blocks":[[ADDRESS,LENGTH,TIMES],...],"lost":N}
 *
 * the instructions in kernel and in user mode, and every block of the kernel's
 * code that was entered, the number of its instructions and how often it was
 * entered.  "lost" counts, from the start of the machine, the blocks that found
 * no room.
 *
 * What a count means.  Instructions are counted one by one, as each begins.
 * One that faults and is begun again counts twice; so may a long string
 * instruction with a repeat prefix, once for every 65536 elements.  A block
 * counts as a whole when it is entered, which is too much if an exception
 * leaves it in the middle.
 */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* From target/i386/cpu.h */
#define HF_CPL_MASK     3

enum { KERNEL, USER, MODES };

/* The marks differ in their last byte */
#define MARK_SIZE       7
static const uint8_t mark[MARK_SIZE - 1] = {
    0x0f, 0x1f, 0x80, 'V', 'M', 'B'
};

/* Blocks of the profile: enough for a kernel's boot and a benchmark */
#define BLOCKS          (1 << 19)

typedef struct Block {
    uint64_t address;
    uint32_t length;            /* 0: this entry is free */
} Block;

static FILE *windows;

static struct qemu_plugin_scoreboard *counts;   /* uint64_t[MODES] */
static struct qemu_plugin_scoreboard *entries;  /* uint64_t[BLOCKS] */

static GMutex lock;                             /* for all below */
static Block *blocks;                           /* open addressing */
static unsigned blocks_used, blocks_lost;
static bool open_window;
static uint64_t begin_counts[MODES];
static uint64_t *begin_entries;                 /* BLOCKS of them */

static uint64_t count_of(unsigned mode)
{
    return qemu_plugin_u64_sum(
        (qemu_plugin_u64) { counts, mode * sizeof(uint64_t) });
}

static qemu_plugin_u64 entries_of(unsigned block)
{
    return (qemu_plugin_u64) { entries, block * sizeof(uint64_t) };
}

/* The entry for a block, which is made if there is none; BLOCKS if full */
static unsigned find_block(uint64_t address, uint32_t length)
{
    uint64_t hash = (address ^ ((uint64_t)length << 48)) * 0x9e3779b97f4a7c15;
    unsigned i = hash >> 45;

    g_mutex_lock(&lock);
    while (blocks[i].length &&
           (blocks[i].address != address || blocks[i].length != length)) {
        i = (i + 1) % BLOCKS;
    }
    if (!blocks[i].length) {
        /* One entry stays free, for the search to end there */
        if (blocks_used < BLOCKS - 1) {
            blocks_used++;
            blocks[i] = (Block) { address, length };
        } else {
            blocks_lost++;
            i = BLOCKS;
        }
    }
    g_mutex_unlock(&lock);
    return i;
}

static void window_begins(unsigned vcpu, void *unused)
{
    g_mutex_lock(&lock);
    for (unsigned i = 0; i < BLOCKS; i++) {
        begin_entries[i] = blocks[i].length ?
                           qemu_plugin_u64_sum(entries_of(i)) : 0;
    }
    for (unsigned mode = 0; mode < MODES; mode++) {
        begin_counts[mode] = count_of(mode);
    }
    open_window = true;
    g_mutex_unlock(&lock);
}

static void window_ends(unsigned vcpu, void *unused)
{
    const char *comma = "";

    g_mutex_lock(&lock);
    if (open_window) {
        open_window = false;
        fprintf(windows, "{\"kernel\":%" PRIu64 ",\"user\":%" PRIu64
                ",\"blocks\":[", count_of(KERNEL) - begin_counts[KERNEL],
                count_of(USER) - begin_counts[USER]);
        for (unsigned i = 0; i < BLOCKS; i++) {
            uint64_t n = blocks[i].length ?
                         qemu_plugin_u64_sum(entries_of(i)) : 0;

            if (n > begin_entries[i]) {
                fprintf(windows, "%s[%" PRIu64 ",%u,%" PRIu64 "]", comma,
                        blocks[i].address, blocks[i].length,
                        n - begin_entries[i]);
                comma = ",";
            }
        }
        fprintf(windows, "],\"lost\":%u}\n", blocks_lost);
        if (fflush(windows)) {
            fprintf(stderr, "icount: a window: %s\n", strerror(errno));
        }
    }
    g_mutex_unlock(&lock);
}

static void look_for_mark(struct qemu_plugin_insn *insn)
{
    uint8_t bytes[MARK_SIZE];

    if (qemu_plugin_insn_size(insn) != MARK_SIZE ||
        qemu_plugin_insn_data(insn, bytes, MARK_SIZE) != MARK_SIZE ||
        memcmp(bytes, mark, sizeof(mark))) {
        return;
    }
    if (bytes[MARK_SIZE - 1] == '1') {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, window_begins,
                                               QEMU_PLUGIN_CB_NO_REGS, NULL);
    } else if (bytes[MARK_SIZE - 1] == '2') {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, window_ends,
                                               QEMU_PLUGIN_CB_NO_REGS, NULL);
    }
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    unsigned mode = qemu_plugin_tb_flags(tb) & HF_CPL_MASK ? USER : KERNEL;
    size_t n = qemu_plugin_tb_n_insns(tb);

    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
            insn, QEMU_PLUGIN_INLINE_ADD_U64,
            (qemu_plugin_u64) { counts, mode * sizeof(uint64_t) }, 1);
        if (mode == USER) {
            look_for_mark(insn);
        }
    }
    if (mode == KERNEL) {
        unsigned block = find_block(qemu_plugin_tb_vaddr(tb), n);

        if (block < BLOCKS) {
            qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
                tb, QEMU_PLUGIN_INLINE_ADD_U64, entries_of(block), 1);
        }
    }
}

QEMU_PLUGIN_EXPORT
int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
                        int argc, char **argv)
{
    const char *path;

    if (strcmp(info->target_name, "x86_64") || !info->system_emulation) {
        fprintf(stderr, "icount: this is for x86_64 machines\n");
        return -1;
    }
    if (argc != 1 || !g_str_has_prefix(argv[0], "windows=")) {
        fprintf(stderr, "icount: windows=PATH is what it takes\n");
        return -1;
    }
    path = argv[0] + strlen("windows=");
    windows = fopen(path, "w");
    if (!windows) {
        fprintf(stderr, "icount: %s: %s\n", path, strerror(errno));
        return -1;
    }
    counts = qemu_plugin_scoreboard_new(MODES * sizeof(uint64_t));
    entries = qemu_plugin_scoreboard_new(BLOCKS * sizeof(uint64_t));
    blocks = g_new0(Block, BLOCKS);
    begin_entries = g_new0(uint64_t, BLOCKS);
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    return 0;
}
