/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * icount: count the instructions of a machine and of the guest it runs
 *
 * A plugin for an emulated x86 machine that runs a virtual machine itself
 * (SVM).  Four counts are kept: instructions of the outer machine and of the
 * nested guest, each in kernel and in user mode.  They can be read while the
 * machine runs.
 *
 *   -plugin libicount.so,socket=PATH[,exact=none|nested|all][,profile=on]
 *
 * A client of the unix socket PATH sends lines; each is answered by one line
 * of JSON:
 *
 *   read      {"total":COUNTS,"vcpus":[COUNTS,...]}, COUNTS being
 *             {"outer_kernel":N,"outer_user":N,"nested_kernel":N,
 *              "nested_user":N}.  A virtual CPU of the nested guest may move
 *             between those of the machine, so its counts are the totals.
 *   profile   {"blocks":[[ADDRESS,LENGTH,TIMES],...],"lost":N}: every block
 *             of the nested kernel, the number of its instructions and how
 *             often it was entered.  N blocks found no room.
 *
 * Counts only grow; the client takes differences.
 *
 * What a count means.  Blocks count as a whole when they are entered, which
 * is too much if an exception leaves one in the middle.  With exact=nested,
 * which is the default, instructions of the nested guest are counted one by
 * one, as each begins.  An instruction that faults and is begun again counts
 * twice; so may a long string instruction with a repeat prefix, once for
 * every 65536 elements.  The profile is made of blocks always.
 *
 * The thread does not survive -daemonize.
 */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* From target/i386/cpu.h */
#define HF_CPL_MASK     3
#define HF_GUEST_MASK   (1 << 21)

/* A kind of instructions is the sum of these */
#define KIND_USER       1
#define KIND_NESTED     2
#define KINDS           4

static const char *const kind_names[KINDS] = {
    "outer_kernel", "outer_user", "nested_kernel", "nested_user"
};

/* Blocks of the profile: enough for a kernel's boot and a benchmark */
#define BLOCKS          (1 << 19)

typedef struct Block {
    uint64_t address;
    uint32_t length;            /* 0: this entry is free */
} Block;

static enum { EXACT_NONE, EXACT_NESTED, EXACT_ALL } exact = EXACT_NESTED;
static bool profile;
static char *socket_path;
static int listener = -1;

static struct qemu_plugin_scoreboard *counts;   /* uint64_t[KINDS] */
static struct qemu_plugin_scoreboard *entries;  /* uint64_t[BLOCKS] */

static GMutex blocks_lock;                      /* for the next two */
static Block *blocks;                           /* open addressing */
static unsigned blocks_used, blocks_lost;

static qemu_plugin_u64 count_of(unsigned kind)
{
    return (qemu_plugin_u64) { counts, kind * sizeof(uint64_t) };
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

    g_mutex_lock(&blocks_lock);
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
    g_mutex_unlock(&blocks_lock);
    return i;
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint32_t flags = qemu_plugin_tb_flags(tb);
    size_t n = qemu_plugin_tb_n_insns(tb);
    unsigned kind = ((flags & HF_CPL_MASK) ? KIND_USER : 0) |
                    ((flags & HF_GUEST_MASK) ? KIND_NESTED : 0);

    if (exact == EXACT_ALL ||
        (exact == EXACT_NESTED && (kind & KIND_NESTED))) {
        for (size_t i = 0; i < n; i++) {
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
                qemu_plugin_tb_get_insn(tb, i),
                QEMU_PLUGIN_INLINE_ADD_U64, count_of(kind), 1);
        }
    } else {
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
            tb, QEMU_PLUGIN_INLINE_ADD_U64, count_of(kind), n);
    }

    if (profile && kind == KIND_NESTED) {
        unsigned block = find_block(qemu_plugin_tb_vaddr(tb), n);

        if (block < BLOCKS) {
            qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
                tb, QEMU_PLUGIN_INLINE_ADD_U64, entries_of(block), 1);
        }
    }
}

static void add_counts(GString *out, int vcpu)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        uint64_t n = vcpu < 0 ? qemu_plugin_u64_sum(count_of(kind))
                              : qemu_plugin_u64_get(count_of(kind), vcpu);

        g_string_append_printf(out, "%c\"%s\":%" PRIu64,
                               kind ? ',' : '{', kind_names[kind], n);
    }
    g_string_append_c(out, '}');
}

static void answer_read(GString *out)
{
    int vcpus = qemu_plugin_num_vcpus();

    g_string_append(out, "{\"total\":");
    add_counts(out, -1);
    g_string_append(out, ",\"vcpus\":[");
    for (int i = 0; i < vcpus; i++) {
        g_string_append(out, i ? "," : "");
        add_counts(out, i);
    }
    g_string_append(out, "]}\n");
}

static void answer_profile(GString *out)
{
    const char *comma = "";

    /* Translation waits meanwhile, some milliseconds */
    g_mutex_lock(&blocks_lock);
    g_string_append(out, "{\"blocks\":[");
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint64_t n = blocks[i].length ? qemu_plugin_u64_sum(entries_of(i)) : 0;

        if (n) {
            g_string_append_printf(out, "%s[%" PRIu64 ",%u,%" PRIu64 "]",
                                   comma, blocks[i].address,
                                   blocks[i].length, n);
            comma = ",";
        }
    }
    g_string_append_printf(out, "],\"lost\":%u}\n", blocks_lost);
    g_mutex_unlock(&blocks_lock);
}

static bool send_all(int client, const GString *out)
{
    for (size_t done = 0; done < out->len; ) {
        ssize_t n = send(client, out->str + done, out->len - done,
                         MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            return false;
        }
        done += MAX(n, 0);
    }
    return true;
}

/*
 * One client, until it hangs up, does not take its answers or sends nonsense.
 * No stdio here: exit() would wait for the lock of a stream that is read.
 */
static void serve(int client)
{
    char line[32];
    size_t len = 0;

    while (len < sizeof(line) && recv(client, line + len, 1, 0) == 1) {
        g_autoptr(GString) out = NULL;

        if (line[len++] != '\n') {
            continue;
        }
        line[len - 1] = 0;
        len = 0;
        out = g_string_new(NULL);
        if (!strcmp(line, "read")) {
            answer_read(out);
        } else if (!strcmp(line, "profile") && profile) {
            answer_profile(out);
        } else {
            g_string_append(out, "{\"error\":\"no such request\"}\n");
        }
        if (!send_all(client, out)) {
            return;
        }
    }
}

static void *server(void *unused)
{
    for (;;) {
        int client = accept(listener, NULL, NULL);

        if (client >= 0) {
            serve(client);
            close(client);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            fprintf(stderr, "icount: accept: %s\n", strerror(errno));
            return NULL;
        }
    }
}

static bool start_server(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    sigset_t all, before;
    pthread_t thread;
    int error;

    if (strlen(socket_path) >= sizeof(address.sun_path)) {
        fprintf(stderr, "icount: %s: the path is too long\n", socket_path);
        return false;
    }
    strcpy(address.sun_path, socket_path);
    unlink(socket_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
        listen(listener, 4)) {
        fprintf(stderr, "icount: %s: %s\n", socket_path, strerror(errno));
        return false;
    }

    /* QEMU's signals are for its own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, NULL, server, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        fprintf(stderr, "icount: thread: %s\n", strerror(error));
        return false;
    }
    pthread_detach(thread);
    return true;
}

static void machine_ends(qemu_plugin_id_t id, void *unused)
{
    unlink(socket_path);
}

QEMU_PLUGIN_EXPORT
int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
                        int argc, char **argv)
{
    if (strcmp(info->target_name, "x86_64") || !info->system_emulation) {
        fprintf(stderr, "icount: this is for x86_64 machines\n");
        return -1;
    }
    for (int i = 0; i < argc; i++) {
        g_auto(GStrv) arg = g_strsplit(argv[i], "=", 2);

        if (!g_strcmp0(arg[0], "socket") && arg[1]) {
            socket_path = g_strdup(arg[1]);
        } else if (!strcmp(argv[i], "exact=none")) {
            exact = EXACT_NONE;
        } else if (!strcmp(argv[i], "exact=nested")) {
            exact = EXACT_NESTED;
        } else if (!strcmp(argv[i], "exact=all")) {
            exact = EXACT_ALL;
        } else if (g_strcmp0(arg[0], "profile") || !arg[1] ||
                   !qemu_plugin_bool_parse(arg[0], arg[1], &profile)) {
            fprintf(stderr, "icount: what is %s?\n", argv[i]);
            return -1;
        }
    }
    if (!socket_path) {
        fprintf(stderr, "icount: socket=PATH is missing\n");
        return -1;
    }

    counts = qemu_plugin_scoreboard_new(KINDS * sizeof(uint64_t));
    if (profile) {
        blocks = g_new0(Block, BLOCKS);
        entries = qemu_plugin_scoreboard_new(BLOCKS * sizeof(uint64_t));
    }
    if (!start_server()) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    qemu_plugin_register_atexit_cb(id, machine_ends, NULL);
    return 0;
}
