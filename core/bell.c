#include "core/bell.h"

ps_status ps__bell_init(struct ps__bell *bell)
{
	atomic_init(&bell->rung, false);
	if (pthread_mutex_init(&bell->mutex, NULL))
		return ps_fail(PS_ENOMEM, "cannot create a mutex");
	if (pthread_cond_init(&bell->cond, NULL)) {
		pthread_mutex_destroy(&bell->mutex);
		return ps_fail(PS_ENOMEM, "cannot create a condition variable");
	}
	return PS_OK;
}

void ps__bell_finish(struct ps__bell *bell)
{
	pthread_cond_destroy(&bell->cond);
	pthread_mutex_destroy(&bell->mutex);
}

void ps__bell_ring(struct ps__bell *bell)
{
	/*
	 * Sequential consistency pairs this with ps__bell_hush: either the bell is seen to be hushed here, or the look
	 * for work after the hush sees what was published before the ring.
	 */
	if (atomic_load(&bell->rung) || atomic_exchange(&bell->rung, true))
		return;
	/* The thread holds the mutex from its look at the bell until it sleeps. */
	pthread_mutex_lock(&bell->mutex);
	pthread_mutex_unlock(&bell->mutex);
	pthread_cond_signal(&bell->cond);
}

void ps__bell_hush(struct ps__bell *bell)
{
	atomic_store(&bell->rung, false);
}

void ps__bell_wait(struct ps__bell *bell)
{
	pthread_mutex_lock(&bell->mutex);
	while (!atomic_load(&bell->rung))
		pthread_cond_wait(&bell->cond, &bell->mutex);
	pthread_mutex_unlock(&bell->mutex);
}
