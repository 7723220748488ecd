/*
 * Speed of the products that a linear layer makes, in GFLOP/s: forward y = x w^T, backward input dx = dy w, and weight
 * gradient dw (+)= dy^T x, with x (m, k) and w (n, k).
 *
 *   bench-gemm [DEVICE [M N K]]
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

static double rate(int64_t m, int64_t n, int64_t k, double seconds)
{
	return seconds > 0 ? 2e-9 * (double)m * (double)n * (double)k / seconds : 0;
}

static void measure(struct bench *bench, int64_t m, int64_t n, int64_t k)
{
	ps_tensor x = BENCH_TENSOR(bench, PS_F32, m, k), w = BENCH_TENSOR(bench, PS_F32, n, k);
	ps_tensor y = BENCH_TENSOR(bench, PS_F32, m, n);
	double forward = BENCH_TIME(bench, gemm, .a = x, .b = w, .c = y, .trans_b = true);
	double input = BENCH_TIME(bench, gemm, .a = y, .b = w, .c = x);
	double add = BENCH_TIME(bench, gemm, .a = y, .b = x, .c = w, .trans_a = true, .accumulate = true);
	double weight = BENCH_TIME(bench, gemm, .a = y, .b = x, .c = w, .trans_a = true);
	if (bench->status == PS_OK)
		printf("%5d %6d %6d   %8.1f %8.1f %8.1f %8.1f\n", (int)m, (int)n, (int)k, rate(m, n, k, forward),
		       rate(m, n, k, input), rate(m, n, k, weight), rate(m, n, k, add));
	fflush(stdout);
	bench_free(y);
	bench_free(w);
	bench_free(x);
}

int main(int count, char **words)
{
	static const int64_t shapes[][3] = {
	        {60, 4096, 4096},   {75, 4096, 4096},  {500, 4096, 4096},  {75, 12288, 4096},
	        {500, 12288, 4096}, {75, 28782, 4096}, {500, 28782, 4096}, {700, 512, 512},
	        {700, 1536, 512},   {700, 2048, 512},  {700, 512, 2048},   {700, 28782, 512},
	        {90, 512, 512},     {90, 2048, 512},   {80, 128, 128},     {640, 512, 128},
	};
	struct bench bench;
	bench_open(&bench, count > 1 ? words[1] : "cpu");
	printf("    m      n      k    forward    input   weight  weight+  GFLOP/s\n");
	if (count > 4)
		measure(&bench, atoll(words[2]), atoll(words[3]), atoll(words[4]));
	else
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
			measure(&bench, shapes[i][0], shapes[i][1], shapes[i][2]);
	return bench_close(&bench);
}
