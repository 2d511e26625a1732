"""What the planner knows of ClickHouse's functions. Names are lower case: many are case-insensitive there.

The lists come from `system.functions` of 26.9 (`deterministic`, `is_aggregate`), the verdicts on aggregates
from merging about 300 expressions over 12 and 290 groups. `tests/query/test_plan_functions.py` compares the
lists with the engine in use.
"""

from __future__ import annotations

from functools import cache


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLOCK = _names(
    """curdate current_date current_timestamp localtime localtimestamp now now64 nowinblock nowinblock64 today
    utctimestamp utc_timestamp yesterday"""
)

NONDETERMINISTIC = _names(
    """addresstoline addresstolinewithinlines addresstosymbol aiclassify aiextract aifilter aigenerate
    airedact
    aitranslate arraypartialreversesort arraypartialshuffle arraypartialsort arrayrandomsample arrayshuffle
    assigncentroid authenticateduser authuser blocknumber blockserializedsize blocksize buildid
    connection_id connectionid current_database current_query_id current_schemas current_user
    currentdatabase currenthandler currentprofiles currentqueryid currentrequesturl currentroles
    currentschemas currentuser database datetimetouuidv7 defaultprofiles defaultroles displayname
    dumpcolumnstructure enabledprofiles enabledroles file filesystemavailable filesystemcapacity
    filesystemunreserved fqdn fullhostname fuzzbits fuzzquery generaterandomstructure generateserialid
    generatesnowflakeid generateulid generateuuidv4 generateuuidv7 getclienthttpheader getmacro
    getmergetreesetting getoskernelversion getserverport getserversetting getsetting getsettingordefault
    hascolumnintable hostname initial_query_id initial_query_start_time initialqueryid initialquerystarttime
    isconstant joinget joingetornull lowcardinalityindices lowcardinalitykeys naivebayesclassifier
    naivebayesclassifierwithallprobs naivebayesclassifierwithprob neighbor obfuscatequery pg_get_userbyid
    pggetuserbyid query_id queryid rand rand32 rand64 randbernoulli randbinomial randcanonical
    randchisquared randconstant randexponential randfisherf randlognormal randnegativebinomial randnormal
    randomfixedstring randomprintableascii randomstring randomstringutf8 randpoisson randstudentt
    randuniform revision rownumberinallblocks rownumberinblock runningaccumulate runningconcurrency
    runningdifference runningdifferencestartingwithfirstvalue schema servertimezone serveruuid session_user
    shardcount shardnum showcertificate sleep sleepeachrow tcpport throwif timezone transactionid
    transactionlatestsnapshot transactionoldestsnapshot uptime user version zookeepersessionuptime"""
)

_NONDETERMINISTIC_PREFIXES = ("dictget", "dicthas", "dictisin", "region", "timeseries")

_AGGREGATES = _names(
    """aggthrow analysisofvariance anova any any_respect_nulls any_value any_value_respect_nulls anyheavy
    anylast anylast_respect_nulls anylastrespectnulls anyrespectnulls anyvaluerespectnulls approx_top_count
    approx_top_k approx_top_sum argandmax argandmin argmax argmin array_agg array_concat_agg avg avgweighted
    bit_and bit_or bit_xor boundingratio categoricalinformationvalue contingency corr corrmatrix corrstable
    count covar_pop covar_samp covarpop covarpopmatrix covarpopstable covarsamp covarsampmatrix
    covarsampstable cramersv cramersvbiascorrected deltasum deltasumtimestamp distinctdynamictypes
    distinctjsonpaths distinctjsonpathsandtypes entropy estimatecompressionratio exponentialmovingaverage
    exponentialtimedecayedavg exponentialtimedecayedcount exponentialtimedecayedmax
    exponentialtimedecayedsum first_value first_value_respect_nulls firstvaluerespectnulls flamegraph gini
    group_concat grouparray grouparrayinsertat grouparrayintersect grouparraylast grouparraymovingavg
    grouparraymovingsum grouparraysample grouparraysorted groupbitand groupbitmap groupbitmapand
    groupbitmapor groupbitmapxor groupbitor groupbitxor groupconcat groupformat groupnumericindexedvector
    groupuniqarray hierarchicalkmeans histogram intervallengthsum kolmogorovsmirnovtest kurtpop kurtsamp
    largesttrianglethreebuckets last_value last_value_respect_nulls lastvaluerespectnulls lttb
    mannwhitneyutest max max_by maxintersections maxintersectionsposition maxmappedarrays meanztest median
    medianbfloat16 medianbfloat16weighted mediandd mediandeterministic medianexact medianexacthigh
    medianexactlow medianexactweighted medianexactweightedinterpolated mediangk medianinterpolatedweighted
    mediantdigest mediantdigestweighted mediantiming mediantimingweighted mergedjsonpatch min min_by
    minmappedarrays mvtencode nothing nothingnull nothinguint64 quantile quantilebfloat16
    quantilebfloat16weighted quantiledd quantiledeterministic quantileexact quantileexactexclusive
    quantileexacthigh quantileexactinclusive quantileexactlow quantileexactweighted
    quantileexactweightedinterpolated quantilegk quantileinterpolatedweighted quantileprometheushistogram
    quantiles quantilesbfloat16 quantilesbfloat16weighted quantilesdd quantilesdeterministic quantilesexact
    quantilesexactexclusive quantilesexacthigh quantilesexactinclusive quantilesexactlow
    quantilesexactweighted quantilesexactweightedinterpolated quantilesgk quantilesinterpolatedweighted
    quantilesprometheushistogram quantilestdigest quantilestdigestweighted quantilestiming
    quantilestimingweighted quantiletdigest quantiletdigestweighted quantiletiming quantiletimingweighted
    rankcorr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    retention sequencecount sequencematch sequencematchevents sequencenextnode simplelinearregression
    singlevalueornull skewpop skewsamp sparkbar st_asmvt std stddev stddev_pop stddev_samp stddevpop
    stddevpopstable stddevsamp stddevsampstable stochasticlinearregression stochasticlogisticregression
    string_agg studentttest studentttestonesample sum sumcount sumkahan summap summapfiltered
    summapfilteredwithoverflow summappedarrays summapwithoverflow sumwithoverflow theilsu topk topkweighted
    uniq uniqcombined uniqcombined64 uniqexact uniqhll12 uniqupto var_pop var_samp varpop varpopstable
    varsamp varsampstable welchttest windowfunnel"""
)

_COMBINATORS = (
    "simplestate", "ordefault", "distinct", "resample", "foreach", "argmax", "argmin", "ornull", "tuple",
    "merge", "state", "array", "null", "map", "if",
)  # fmt: skip

# Answers that ClickHouse itself may give differently from run to run (or that depend on the order of rows).
_NOT_REPRODUCIBLE = _names(
    """any any_respect_nulls any_value any_value_respect_nulls anyheavy anylast anylast_respect_nulls
    anylastrespectnulls anyrespectnulls anyvaluerespectnulls approx_top_count approx_top_k approx_top_sum
    argandmax argandmin argmax argmin array_agg array_concat_agg estimatecompressionratio
    exponentialmovingaverage first_value first_value_respect_nulls firstvaluerespectnulls group_concat
    grouparray grouparrayinsertat grouparraylast grouparraymovingavg grouparraymovingsum grouparraysample
    groupconcat groupformat groupuniqarray hierarchicalkmeans histogram last_value last_value_respect_nulls
    lastvaluerespectnulls max_by median mediangk mediantdigest mediantdigestweighted min_by quantile
    quantilegk quantiles quantilesgk quantilestdigest quantilestdigestweighted quantiletdigest
    quantiletdigestweighted sequencecount stochasticlinearregression stochasticlogisticregression string_agg
    topk topkweighted deltasum deltasumtimestamp boundingratio"""
)

# States of these merge to the very answer that one pass gives, whatever the grouping (no floats among them).
# Spelled exactly, since the name of a state's function is made from the name in the query.
_MERGES_EXACTLY = _names(
    """avg groupBitAnd groupBitmap groupBitOr groupBitXor count max min quantileDeterministic quantileExact
    quantileExactHigh quantileExactLow quantilesExact quantilesExactHigh quantilesExactLow sum
    sumWithOverflow uniq uniqCombined uniqCombined64 uniqExact uniqHLL12"""
)


def is_nondeterministic(name: str) -> bool:
    """Answers differ between two runs over the same tables, sessions or servers."""
    low = name.lower()
    return low in NONDETERMINISTIC or low.startswith(_NONDETERMINISTIC_PREFIXES)


def is_clock(name: str) -> bool:
    return name.lower() in CLOCK


@cache
def aggregate(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The aggregate under a call's name and its combinators, innermost first; None for another function.

    `uniqIf` → ("uniq", ("if",)). The longest aggregate wins: `argMax` is not `arg` with a combinator.
    """
    low, combinators = name.lower(), []
    while low not in _AGGREGATES:
        combinator = next((c for c in _COMBINATORS if low.endswith(c) and len(low) > len(c)), None)
        if combinator is None:
            return None
        combinators.append(combinator)
        low = low[: -len(combinator)]
    return low, tuple(reversed(combinators))


def reproducible(name: str) -> bool:
    """ClickHouse gives this aggregate's answer again on the same rows."""
    found = aggregate(name)
    return found is None or found[0] not in _NOT_REPRODUCIBLE


def merges_exactly(name: str) -> bool:
    """States of this aggregate, merged, finish to the same value as one pass over the rows (no floats)."""
    return name.removesuffix("If") in _MERGES_EXACTLY
