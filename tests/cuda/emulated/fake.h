/*
 * Steering the stand-in for CUDA. The module that has it exports these functions; a test finds them with dlsym. The
 * environment: PS_FAKE_CUDA_SEED, when not 0, makes streams and some copies of pageable memory late at random and
 * permutes the threads of blocks; PS_FAKE_CUDA_DEVICES is the number of devices (2), and PS_FAKE_CUDA_DRIVER the
 * version of CUDA that the driver knows (CUDART_VERSION), 0 without a driver; PS_FAKE_CUDA_OLD is the number of devices
 * of compute capability 7.0, which come first (0).
 */
#ifndef PS_TESTS_CUDA_FAKE_H
#define PS_TESTS_CUDA_FAKE_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What fails: a call of the API; one of those calls that ask for memory, or that launch or capture a kernel; or a
 * command when the stream comes to it, which then sticks.
 */
enum fake_failure { FAKE_CALL, FAKE_ALLOCATION, FAKE_LAUNCH, FAKE_COMMAND, FAKE_FAILURES };

struct fake_cuda {
	/* The nth call or command from now on fails with the code, once; 0: none. */
	void (*fail_nth)(enum fake_failure what, long nth, int code);
	/* How often that has happened. */
	long (*failed)(void);
	/* The device falls off the bus: its streams stop where they are, and so does what waits for their events. */
	void (*lose)(int device);
	/* Ends sticking errors and all contexts, as a new process would; lost devices are back. */
	void (*heal)(void);
	/* The devices that have a context, as bits. */
	unsigned long (*contexts)(void);
	/* The calling thread's device. */
	int (*device)(void);
	/* Whether another process has the device for itself, so that no context can be made there. */
	void (*occupy)(int device, int occupied);
	/* Streams, events, graphs and allocations that exist. */
	long (*live)(void);
	/* Bytes that are allocated on the devices. */
	unsigned long (*device_bytes)(void);
	/* How long each command takes at least, and how long after an event a thread wakes up that waits for it. */
	void (*slow)(int command_us, int waking_us);
	/* Whether streams begin no command, and how many they were given that they have not begun. */
	void (*hold)(int hold);
	long (*waiting)(void);
	/* Whether one device may reach another's memory. */
	void (*allow_peers)(int allow);
	/* Flips a byte of every copy from device to device of at least so many bytes; 0: none. */
	void (*corrupt_peers)(unsigned long bytes);
	/* Whether cuBLASLt has an algorithm that gives a row the same bits among any number of rows. */
	void (*allow_good_algorithms)(int allow);
	/* Whether streams can be captured. */
	void (*allow_capture)(int allow);
	/* How many kernels were launched, or captured, so far, and how many graphs. */
	long (*launches)(void);
	long (*replays)(void);
	/* What was misused: "" or one line. */
	const char *(*misuse)(void);
};

const struct fake_cuda *fake_cuda_controls(void);

#ifdef __cplusplus
}
#endif
#endif
