/*
 * Server headers that pgrx-pg-sys does not bind. build.rs binds the functions
 * named in its list from here and takes every type from pgrx-pg-sys.
 */
#include "postgres.h"
#include "access/tableam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_subscription_rel.h"
#include "commands/matview.h"
#include "commands/sequence.h"
#include "commands/createas.h"
#include "commands/view.h"
#include "common/hashfn.h"
#include "executor/nodeAgg.h"
#include "utils/datum.h"
#include "utils/plancache.h"
#include "utils/queryenvironment.h"
#include "utils/tuplesort.h"
