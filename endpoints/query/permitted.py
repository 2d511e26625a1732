"""Which functions, settings and tables a query may use: the lists that `bans.py` goes by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Allow:
    """What a project allows beyond the lists here: table functions and settings, by name."""

    table_functions: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()


NOTHING_MORE: Final = Allow()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# These make rows out of nothing but their arguments.
TABLE_FUNCTIONS: Final = _names(
    "generateseries generate_series null numbers numbers_mt primes values view zeros zeros_mt"
)
# Those of ClickHouse 26.9 that reach files, hosts, other tables or the server itself. Refused wherever they
# are called; after FROM and JOIN one that is in neither list is refused as well.
REFUSED_TABLE_FUNCTIONS: Final = _names(
    """
    arrowstream azureblobstorage azureblobstoragecluster bigquery cluster clusterallreplicas cosn
    deltalake deltalakeazure deltalakeazurecluster deltalakecluster deltalakelocal deltalakes3
    deltalakes3cluster dictionary eval executable file filecluster filesystem fuzzjson fuzzquery gcs
    generaterandom hdfs hdfscluster hudi hudicluster iceberg icebergazure icebergazurecluster
    icebergcluster iceberghdfs iceberghdfscluster iceberglocal iceberglocalcluster icebergs3
    icebergs3cluster input jdbc loop merge mergetreeanalyzeindexes mergetreeanalyzeindexesuuid
    mergetreecodecblockcounts mergetreeindex mergetreeprojection mergetreetextindex mongodb mysql
    odbc oss paimon paimonazure paimonazurecluster paimoncluster paimonhdfs paimonhdfscluster
    paimonlocal paimons3 paimons3cluster postgresql prometheusquery prometheusqueryrange python
    redis remote remotesecure s3 s3cluster sqlite sqlstandardvalues timeseriesdata
    timeseriesmetricfamilies timeseriesmetrics timeseriessamples timeseriesselector timeseriestags
    url urlcluster viewexplain viewifpermitted ytsaurus
    """
)
DICTIONARIES: Final = re.compile(r"dict(get|has|isin)\w*|joinget(ornull)?")
# Functions that reach outside the query's own rows: hosts, services, the server's configuration, time itself.
REFUSED_FUNCTIONS: Final = re.compile(
    r"ai(classify|embed|extract|filter|generate|redact|similarity|translate)|addressto\w+|catboostevaluate"
    r"|current(handler|requesturl)|evalmlmethod|filesystem(available|capacity|unreserved)|fqdn|fullhostname"
    r"|get(clienthttpheader|macro|mergetreesetting|oskernelversion|serverport|serversetting)"
    r"|getsetting(ordefault)?|hascolumnintable|hostname|serveruuid|showcertificate|sleep|sleepeachrow|tcpport"
)
SYSTEM_DATABASES: Final = frozenset({"system", "information_schema"})
SYSTEM_TABLES: Final = frozenset({"one", "numbers", "numbers_mt", "zeros", "zeros_mt"})

# Settings that a query may carry: they say what it means, or how ClickHouse goes about it.
SETTINGS: Final = _names(
    """
    aggregate_functions_null_for_empty cast_keep_nullable distributed_product_mode enable_analyzer
    allow_experimental_analyzer final force_index_by_date force_primary_key group_by_use_nulls
    join_algorithm join_default_strictness join_use_nulls joined_subquery_requires_alias
    optimize_aggregation_in_order optimize_move_to_prewhere optimize_read_in_order
    optimize_skip_unused_shards transform_null_in union_default_mode use_skip_indexes
    """
)
REFUSED_SETTINGS: Final = (
    (re.compile(r"limit|offset"), "cuts the answer; use LIMIT, or `limit` in the call"),
    (re.compile(r"\w*overflow_mode\w*"), "lets ClickHouse cut an answer without a word"),
    (
        re.compile(r"max_\w+|min_\w+|timeout\w*|\w+_timeout\w*|readonly|priority"),
        "is a cap; use `limits:` in endpoint.yaml",
    ),
    (re.compile(r"prefer_column_name_to_alias"), "changes what names mean; rename the alias instead"),
    (re.compile(r"additional_\w+_filters?"), "hides rows; write the condition in WHERE"),
    (re.compile(r"session_timezone"), "changes what times mean; name the zone in the type or function"),
    (re.compile(r"\w*query_cache\w*"), "can answer with old rows; use `cache:` in endpoint.yaml"),
    (re.compile(r"(input|output)_format_\w+"), "changes how rows are sent, which is ours"),
)
