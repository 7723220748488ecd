/*
 * All range kernels, for one instruction set. CMakeLists.txt compiles this file once for each of them, with
 * FAST_KERNELS as the name of the table and FAST_NAME as the name of the set.
 */
#include "backends/cpu/fast/kernels/attention.h"
#include "backends/cpu/fast/kernels/elements.h"
#include "backends/cpu/fast/kernels/embedding.h"
#include "backends/cpu/fast/kernels/gemm.h"
#include "backends/cpu/fast/kernels/loss.h"
#include "backends/cpu/fast/kernels/norm.h"

extern const struct fast_kernels FAST_KERNELS;

const struct fast_kernels FAST_KERNELS = {
        .name = FAST_NAME,
        .tile = {TILE_ROWS, TILE_COLUMNS},
        .gemm_pack = gemm_pack_range,
        .convert = convert_range,
        .op =
                {
                        [PS_OP_gemm] = gemm_range,
                        [PS_OP_column_sum] = column_sum_range,
                        [PS_OP_add] = add_range,
                        [PS_OP_relu_fwd] = relu_fwd_range,
                        [PS_OP_relu_bwd] = relu_bwd_range,
                        [PS_OP_dropout] = dropout_range,
                        [PS_OP_relu_dropout_fwd] = relu_dropout_fwd_range,
                        [PS_OP_relu_dropout_bwd] = relu_dropout_bwd_range,
                        [PS_OP_embedding_fwd] = embedding_fwd_range,
                        [PS_OP_embedding_bwd_weight] = embedding_bwd_weight_range,
                        [PS_OP_layernorm_fwd] = layernorm_fwd_range,
                        [PS_OP_layernorm_bwd_input] = layernorm_bwd_input_range,
                        [PS_OP_layernorm_bwd_weight] = layernorm_bwd_weight_range,
                        [PS_OP_dropout_add_layernorm_fwd] = dropout_add_layernorm_fwd_range,
                        [PS_OP_dropout_add_layernorm_bwd_input] = dropout_add_layernorm_bwd_input_range,
                        [PS_OP_attention_fwd] = attention_fwd_range,
                        [PS_OP_attention_bwd] = attention_bwd_range,
                        [PS_OP_cross_entropy] = cross_entropy_range,
                        [PS_OP_sum_squares] = sum_squares_range,
                        [PS_OP_sgd] = sgd_range,
                },
};
