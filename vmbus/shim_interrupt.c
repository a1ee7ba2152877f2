// SPDX-License-Identifier: GPL-2.0
/*
 * Who handles the hypervisor's interrupt. With PREEMPT_RT the spinlocks of channels
 * sleep, so a thread for each CPU does, as for the C core (vmbus_isr() in
 * drivers/hv/vmbus_drv.c). Its name is the same: people set priorities by it.
 */
#include <linux/bottom_half.h>
#include <linux/hyperv.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/smpboot.h>
#include <asm/mshyperv.h>

#include "shim.h"

#ifdef CONFIG_PREEMPT_RT

static void (*vmbus_shim_handler)(void);
static DEFINE_PER_CPU(struct task_struct *, vmbus_shim_thread);
static DEFINE_PER_CPU(bool, vmbus_shim_pending);

static void vmbus_shim_wake(void)
{
	struct task_struct *thread = __this_cpu_read(vmbus_shim_thread);

	__this_cpu_write(vmbus_shim_pending, true);
	if (thread)
		wake_up_process(thread);
}

static void vmbus_shim_thread_setup(unsigned int cpu)
{
	sched_set_fifo(current);
}

static int vmbus_shim_thread_should_run(unsigned int cpu)
{
	return __this_cpu_read(vmbus_shim_pending);
}

static void vmbus_shim_thread_run(unsigned int cpu)
{
	__this_cpu_write(vmbus_shim_pending, false);

	/* What the handler raises, NAPI or a tasklet, runs here and does not wait for ksoftirqd. */
	local_bh_disable();
	vmbus_shim_handler();
	local_bh_enable();
}

static struct smp_hotplug_thread vmbus_shim_threads = {
	.store = &vmbus_shim_thread,
	.setup = vmbus_shim_thread_setup,
	.thread_should_run = vmbus_shim_thread_should_run,
	.thread_fn = vmbus_shim_thread_run,
	.thread_comm = "vmbus_irq/%u",
};

int vmbus_shim_setup_interrupt(void (*handler)(void))
{
	int ret;

	vmbus_shim_handler = handler;
	ret = smpboot_register_percpu_thread(&vmbus_shim_threads);
	if (!ret)
		hv_setup_vmbus_handler(vmbus_shim_wake);

	return ret;
}

void vmbus_shim_remove_interrupt(void)
{
	hv_remove_vmbus_handler();
	/* Interrupts are RCU readers: after this none wakes a thread any more. */
	synchronize_rcu();
	smpboot_unregister_percpu_thread(&vmbus_shim_threads);
}

#else

int vmbus_shim_setup_interrupt(void (*handler)(void))
{
	hv_setup_vmbus_handler(handler);

	return 0;
}

void vmbus_shim_remove_interrupt(void)
{
	hv_remove_vmbus_handler();
	/* Interrupts are RCU readers: after this none runs the handler any more. */
	synchronize_rcu();
}

#endif
