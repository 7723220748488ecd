/* The checks of sizes that the layers share. PS_EINVAL names the option and what would be right. */
#ifndef PS_MODEL_SIZES_H
#define PS_MODEL_SIZES_H

#include <penstock/status.h>

#include <stdint.h>

ps_status ps__check_vocabulary(int64_t vocabulary);
ps_status ps__check_emsize(int64_t emsize);
ps_status ps__check_dropout(double dropout);

#endif
