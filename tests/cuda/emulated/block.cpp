/*
 * Running a kernel's blocks: threads as stackful coroutines on the calling thread.
 *
 * A coroutine takes threads that have not begun, one after the other, until one of them stops at a barrier; it then
 * belongs to that thread until the thread ends. So a kernel without barriers needs one coroutine and no switches.
 */
#include "block.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace emulated
{
namespace
{

enum { FRESH, READY, AT_BLOCK, AT_WARP, DONE };
constexpr size_t stack_bytes = size_t(256) << 10;
constexpr std::align_val_t shared_alignment{128};

struct free_shared {
	void operator()(unsigned char *memory) const
	{
		::operator delete(memory, shared_alignment);
	}
};

struct coroutine {
	ucontext_t context;
	std::unique_ptr<unsigned char[]> stack;
	void *sanitizer = nullptr;
};

/*
 * Coroutines that no thread has, for the next ones: each is 256 KiB that have to be mapped, and streams are many and
 * short. Never destroyed: streams may outlive static objects.
 */
struct pool {
	std::mutex mutex;
	std::vector<std::unique_ptr<coroutine>> free;
};

pool &the_pool()
{
	static pool *one = new pool;
	return *one;
}

struct runner {
	ucontext_t context; /* of the caller */
	void *sanitizer = nullptr;
	const void *stack = nullptr;
	size_t stack_size = 0;
	bool from_caller = false; /* the last switch */
	std::vector<std::unique_ptr<coroutine>> all;
	std::vector<coroutine *> idle;
	coroutine *active = nullptr;
	/* The block. */
	const std::function<void()> *body = nullptr;
	std::vector<thread_state> threads;
	std::vector<coroutine *> owner;
	std::vector<unsigned> order;
	size_t begun = 0, done = 0, arrived = 0;
	size_t at = 0; /* in `order`: who is asked next whether it can go on */
	std::vector<unsigned> warp_arrived;
	std::vector<double> room; /* two turns of every warp */
	std::vector<const warp_call *> calls; /* what each thread waits in; NULL: in none */
	std::unique_ptr<unsigned char, free_shared> shared;
	bool any = false, any_result = false;
	unsigned current = 0;

	/* Those within a thread of a block that came to no end keep what is on their stacks, and go. */
	~runner()
	{
		pool &p = the_pool();
		std::lock_guard<std::mutex> hold(p.mutex);
		if (idle.size() == all.size())
			std::move(all.begin(), all.end(), std::back_inserter(p.free));
	}
};

thread_local runner the;

/* Not inlined, and asked for anew after each switch: where the running thread is kept may have changed by then. */
[[gnu::noinline]] runner &self()
{
	return the;
}

/* A coroutine, or the caller again, has the word. */
void arrive(void *fake)
{
#if defined(__SANITIZE_ADDRESS__)
	const void *stack;
	size_t bytes;
	__sanitizer_finish_switch_fiber(fake, &stack, &bytes);
	runner &r = self();
	if (r.from_caller) {
		r.stack = stack;
		r.stack_size = bytes;
	}
#endif
	(void)fake;
}

/* Goes on at `to`, or with NULL at the caller; comes back when somebody goes on at `from`. */
void go(runner &r, ucontext_t *from, coroutine *to)
{
	void *fake = nullptr;
	r.active = to;
	r.from_caller = from == &r.context;
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(&fake, to ? to->stack.get() : r.stack, to ? stack_bytes : r.stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
	__tsan_switch_to_fiber(to ? to->sanitizer : r.sanitizer, 0);
#endif
	swapcontext(from, to ? &to->context : &r.context);
	arrive(fake);
}

void coroutine_main();

[[gnu::noinline]] void prepare(ucontext_t &context, unsigned char *stack)
{
	getcontext(&context);
	context.uc_stack.ss_sp = stack;
	context.uc_stack.ss_size = stack_bytes;
	context.uc_link = nullptr;
	makecontext(&context, coroutine_main, 0);
#if defined(__SANITIZE_ADDRESS__)
	/* The sanitizer is told of each switch, and need not clear its shadow of a stack that it takes for a new one.
	 */
	context.uc_stack.ss_size = 0;
#endif
}

coroutine *spare(runner &r)
{
	if (!r.idle.empty()) {
		coroutine *one = r.idle.back();
		r.idle.pop_back();
		return one;
	}
	{
		std::lock_guard<std::mutex> hold(the_pool().mutex);
		std::vector<std::unique_ptr<coroutine>> &free = the_pool().free;
		if (!free.empty()) {
			r.all.push_back(std::move(free.back()));
			free.pop_back();
			return r.all.back().get();
		}
	}
	r.all.push_back(std::make_unique<coroutine>());
	coroutine *one = r.all.back().get();
	one->stack.reset(new unsigned char[stack_bytes]);
	prepare(one->context, one->stack.get());
#if defined(__SANITIZE_THREAD__)
	one->sanitizer = __tsan_create_fiber(0);
#endif
	return one;
}

/* Threads [first, first + count) are not all in the call that one of them waits in. */
[[noreturn]] void apart(unsigned first, unsigned count)
{
	runner &r = self();
	for (unsigned i = first; i < first + count; i++)
		if (r.calls[i]) {
			std::fprintf(stderr, "undefined in CUDA: %s: not all lanes of the warp of thread %u are there\n",
			             r.calls[i]->name, i);
			std::abort();
		}
	std::abort();
}

/*
 * Who goes on when a coroutine stops: one for threads that have not begun, or the next thread's that waits no more.
 * NULL: nobody, for all are done or wait for what will not come.
 */
coroutine *next(runner &r)
{
	if (r.begun < r.threads.size())
		return spare(r);
	for (size_t left = r.order.size(); left > 0; left--) {
		unsigned index = r.order[r.at];
		r.at = (r.at + 1) % r.order.size();
		if (r.threads[index].state == READY) {
			r.current = index;
			return r.owner[index];
		}
	}
	return nullptr;
}

void leave(runner &r)
{
	go(r, &r.active->context, next(r));
}

void coroutine_main()
{
	arrive(nullptr);
	for (;;) {
		while (self().begun < self().threads.size()) {
			unsigned index = self().order[self().begun++];
			self().current = index;
			self().owner[index] = self().active;
			(*self().body)();
			runner &r = self();
			r.threads[r.current].state = DONE;
			r.done++;
		}
		runner &r = self();
		r.idle.push_back(r.active);
		leave(r);
	}
}

void stop_at(runner &r, int state)
{
	r.threads[r.current].state = state;
	leave(r);
}

uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

void set_order(runner &r, unsigned count, uint64_t seed)
{
	r.order.resize(count);
	std::iota(r.order.begin(), r.order.end(), 0U);
	for (unsigned i = count; seed && i > 1; i--)
		std::swap(r.order[i - 1], r.order[mix(seed + i) % i]);
}

/* False when some threads wait for what the others will not do any more. */
bool run_block(const dim3 &grid, const dim3 &block, const dim3 &index, uint64_t seed)
{
	runner &r = self();
	unsigned count = block.x;
	set_order(r, count, seed);
	r.threads.assign(count, thread_state());
	for (unsigned i = 0; i < count; i++) {
		r.threads[i].thread = dim3(i, 0, 0);
		r.threads[i].block = index;
		r.threads[i].block_size = block;
		r.threads[i].grid = grid;
	}
	r.owner.assign(count, nullptr);
	r.calls.assign(count, nullptr);
	r.warp_arrived.assign((count + lanes - 1) / lanes, 0);
	r.room.resize(size_t(2) * count);
	r.begun = r.done = r.arrived = r.at = 0;
	go(r, &r.context, spare(r));
	for (unsigned i = 0; r.done < count && i < count; i++)
		if (r.calls[i])
			apart(i, 1);
	return r.done == count;
}

} // namespace

thread_state &here()
{
	runner &r = self();
	return r.threads[r.current];
}

void block_barrier()
{
	runner &r = self();
	if (++r.arrived < r.threads.size()) {
		stop_at(r, AT_BLOCK);
		return;
	}
	r.arrived = 0;
	r.any_result = r.any;
	r.any = false;
	for (thread_state &thread : r.threads)
		if (thread.state == AT_BLOCK)
			thread.state = READY;
}

void warp_barrier()
{
	runner &r = self();
	unsigned warp = r.current / lanes;
	if (++r.warp_arrived[warp] < lanes) {
		stop_at(r, AT_WARP);
		return;
	}
	/* The lanes of a call have left none behind here, and those of a barrier wait in none. */
	for (unsigned i = warp * lanes; i < (warp + 1) * lanes; i++)
		if (r.calls[i])
			apart(warp * lanes, lanes);
	r.warp_arrived[warp] = 0;
	for (unsigned i = warp * lanes; i < (warp + 1) * lanes; i++)
		if (r.threads[i].state == AT_WARP)
			r.threads[i].state = READY;
}

void together(const warp_call &call)
{
	runner &r = self();
	unsigned first = r.current / lanes * lanes;
	r.calls[r.current] = &call;
	if (r.warp_arrived[r.current / lanes] + 1 == lanes) {
		for (unsigned i = first; i < first + lanes; i++)
			if (!r.calls[i] || r.calls[i]->act != call.act)
				apart(first, lanes);
		call.act(&r.calls[first]);
		std::fill_n(r.calls.begin() + first, lanes, nullptr);
	}
	warp_barrier();
}

bool block_any(bool value)
{
	self().any |= value;
	block_barrier();
	return self().any_result;
}

double *exchange(unsigned turn)
{
	runner &r = self();
	unsigned warp = r.current / lanes;
	return &r.room[(size_t(warp) * 2 + turn) * lanes];
}

unsigned char *dynamic_shared()
{
	return self().shared.get();
}

bool run_kernel(const dim3 &grid, const dim3 &block, size_t shared, const std::function<void()> &body, uint64_t seed)
{
	runner &r = self();
#if defined(__SANITIZE_THREAD__)
	r.sanitizer = __tsan_get_current_fiber();
#endif
	r.shared.reset(static_cast<unsigned char *>(::operator new(shared, shared_alignment)));
	r.body = &body;
	for (unsigned y = 0; y < grid.y; y++)
		for (unsigned x = 0; x < grid.x; x++) {
			/* What is in shared memory at the start is nobody's: NaN. */
			std::memset(r.shared.get(), 0xFF, shared);
			if (!run_block(grid, block, dim3(x, y, 0), seed ? mix(seed + x * 31 + y) | 1 : 0))
				return false;
		}
	return true;
}

} // namespace emulated
