/* `penstock data`: looks at corpora and fetches published ones. */
#ifndef PENSTOCK_TOOLS_CMD_DATA_H
#define PENSTOCK_TOOLS_CMD_DATA_H

/* argv[0] is "data". Returns the exit status: 0 done, 1 the run failed, 2 the command line or the data is wrong. */
int ps_cmd_data(int argc, char **argv);

#endif
