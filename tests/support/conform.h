/*
 * For tests that compare devices with the reference: which devices, which seed, and how a suite ends.
 *
 * The environment: PS_TEST_SEED is the seed of all fills, PS_TEST_DEVICES a comma-separated list of devices (default:
 * those that ps_device_list knows; of the CPU's the whole and its first core). PS_TEST_ELEMENTS is the most elements of
 * a tensor; rows with larger ones are left out, for devices that are slow, such as simulators.
 */
#ifndef PS_TESTS_SUPPORT_CONFORM_H
#define PS_TESTS_SUPPORT_CONFORM_H

#include "verify/conform.h"

#include <check.h>

/* The seed of this run. */
uint64_t conform_seed(void);
/* ps__conform_dropout with that seed. */
ps_dropout conform_dropout(const struct conform_drop *drop);

/* The devices under test, the reference left out; *count of them. The strings live as long as the program. */
const char *const *conform_devices(size_t *count);
/* The same with the reference as device 0, for loop tests: how many there are, and the name of one. */
int conform_device_count(void);
const char *conform_device(int index);

/* A check of these devices with the environment's settings; results go to `report`. */
ps_verify_config conform_config(const char *const *devices, size_t count,
                                void (*report)(void *payload, const ps_verify_result *result), void *payload);

/* Runs all rows of a set on all devices; fails the calling test after the last row if any failed. */
void conform_check(const struct conform_set *set);

/* Runs a suite without forking. Returns main's value: 77 when rows were there to be compared and none was. */
int conform_suite_run(Suite *suite);

#endif
