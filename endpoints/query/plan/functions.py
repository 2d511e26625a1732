"""What the planner knows of ClickHouse's functions. Names are lower case: many are case-insensitive there.

The lists come from `system.functions` of 26.9 (`deterministic`, `is_aggregate`), the verdicts on aggregates
from merging about 300 expressions over 12 and 290 groups. `tests/query/test_plan_functions.py` compares the
lists with the engine in use, `tests/parity/test_parity_aggregates.py` the answers.
"""

from __future__ import annotations

from enum import Enum
from functools import cache


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


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


class Merging(Enum):
    """What becomes of an aggregate whose answer is put together from states of parts."""

    EXACT = "the very answer of one pass; over floats but for their last bits"
    FLOATS = "the answer of one pass but for the last bits of floats"
    TIES = "the answer of one pass, unless rows tie"
    ORDER = "an answer that ClickHouse itself may give: it depends on the order of rows, or on chance"
    WRONG = "not an answer of the query"
    STATELESS = "nothing: there is no state, or none that has been tried"


MERGING = {
    Merging.EXACT: _names(
        """avg avgweighted bit_and bit_or bit_xor categoricalinformationvalue count distinctdynamictypes
        distinctjsonpaths distinctjsonpathsandtypes gini grouparrayintersect grouparraysorted groupbitand
        groupbitmap groupbitor groupbitxor groupnumericindexedvector intervallengthsum kolmogorovsmirnovtest
        largesttrianglethreebuckets lttb mannwhitneyutest max maxintersections maxintersectionsposition
        maxmappedarrays medianbfloat16 medianbfloat16weighted mediandd mediandeterministic medianexact
        medianexacthigh medianexactlow medianexactweighted medianexactweightedinterpolated
        medianinterpolatedweighted mediantiming mediantimingweighted min minmappedarrays nothing nothingnull
        nothinguint64 quantilebfloat16 quantilebfloat16weighted quantiledd quantiledeterministic
        quantileexact quantileexactexclusive quantileexacthigh quantileexactinclusive quantileexactlow
        quantileexactweighted quantileexactweightedinterpolated quantileinterpolatedweighted
        quantileprometheushistogram quantilesbfloat16 quantilesbfloat16weighted quantilesdd
        quantilesdeterministic quantilesexact quantilesexactexclusive quantilesexacthigh
        quantilesexactinclusive quantilesexactlow quantilesexactweighted quantilesexactweightedinterpolated
        quantilesinterpolatedweighted quantilesprometheushistogram quantilestiming quantilestimingweighted
        quantiletiming quantiletimingweighted rankcorr retention sequencematch sequencematchevents
        sum sumcount summap summapfiltered summapfilteredwithoverflow summappedarrays summapwithoverflow
        sumwithoverflow uniq uniqcombined uniqcombined64 uniqexact uniqhll12 uniqupto windowfunnel"""
    ),
    Merging.FLOATS: _names(
        """analysisofvariance anova contingency corr corrmatrix corrstable covar_pop covar_samp covarpop
        covarpopmatrix covarpopstable covarsamp covarsampmatrix covarsampstable cramersv
        cramersvbiascorrected entropy exponentialmovingaverage kurtpop kurtsamp meanztest regr_avgx regr_avgy
        regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy simplelinearregression
        skewpop skewsamp std stddev stddev_pop stddev_samp stddevpop stddevpopstable stddevsamp
        stddevsampstable studentttest sumkahan theilsu var_pop var_samp varpop varpopstable varsamp
        varsampstable welchttest"""
    ),
    Merging.TIES: _names("argandmax argandmin argmax argmin max_by min_by"),
    Merging.ORDER: _names(
        """any any_respect_nulls any_value any_value_respect_nulls anyheavy anylast anylast_respect_nulls
        anylastrespectnulls anyrespectnulls anyvaluerespectnulls approx_top_count approx_top_k approx_top_sum
        array_agg array_concat_agg estimatecompressionratio first_value first_value_respect_nulls
        firstvaluerespectnulls group_concat grouparray grouparrayinsertat grouparraylast grouparraymovingavg
        grouparraymovingsum grouparraysample groupconcat groupformat groupuniqarray hierarchicalkmeans
        histogram last_value last_value_respect_nulls lastvaluerespectnulls median mediangk mediantdigest
        mediantdigestweighted quantile quantilegk quantiles quantilesgk quantilestdigest
        quantilestdigestweighted quantiletdigest quantiletdigestweighted sequencecount
        stochasticlinearregression stochasticlogisticregression string_agg topk topkweighted"""
    ),
    Merging.WRONG: _names(
        "boundingratio deltasum deltasumtimestamp singlevalueornull sparkbar studentttestonesample"
    ),
    Merging.STATELESS: _names(
        """aggthrow exponentialtimedecayedavg exponentialtimedecayedcount exponentialtimedecayedmax
        exponentialtimedecayedsum flamegraph groupbitmapand groupbitmapor groupbitmapxor mergedjsonpatch
        mvtencode sequencenextnode st_asmvt"""
    ),
}

_CLASSES = {name: merging for merging, names in MERGING.items() for name in names}

# Over floats these answer the same in any order: they add none, and choose among none that are equal.
_BLIND_TO_FLOATS = _names(
    """count groupbitmap retention sequencematch uniq uniqcombined uniqcombined64 uniqexact uniqhll12 uniqupto
    windowfunnel"""
)

_COMBINATORS = (
    "simplestate", "ordefault", "distinct", "resample", "foreach", "argmax", "argmin", "ornull", "tuple",
    "merge", "state", "array", "null", "map", "if",
)  # fmt: skip


def is_nondeterministic(name: str) -> bool:
    """Answers differ between two runs over the same tables, sessions or servers."""
    low = name.lower()
    return low in NONDETERMINISTIC or low.startswith(_NONDETERMINISTIC_PREFIXES)


@cache
def aggregate(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The aggregate under a call's name and its combinators, innermost first; None for another function.

    `uniqIf` → ("uniq", ("if",)). The longest aggregate wins: `argMax` is not `arg` with a combinator.
    """
    low, combinators = name.lower(), []
    while low not in _CLASSES:
        combinator = next((c for c in _COMBINATORS if low.endswith(c) and len(low) > len(c)), None)
        if combinator is None:
            return None
        combinators.append(combinator)
        low = low[: -len(combinator)]
    return low, tuple(reversed(combinators))


def merging(name: str) -> Merging | None:
    """What merging does to the aggregate of that name, whatever its combinators; None for no aggregate."""
    found = aggregate(name)
    return None if found is None else _CLASSES[found[0]]


def adds_floats(name: str, type_text: str) -> bool:
    """The aggregate, of arguments or of a result with that type, may differ in the last bits of floats."""
    found = aggregate(name)
    assert found is not None
    known = _CLASSES[found[0]]
    over_floats = "Float" in type_text and found[0] not in _BLIND_TO_FLOATS
    return known is Merging.FLOATS or (known is Merging.EXACT and over_floats)


def reproducible(name: str) -> bool:
    """ClickHouse gives this aggregate's answer again on the same rows, but for the last bits of floats."""
    return merging(name) not in (Merging.TIES, Merging.ORDER, Merging.WRONG)
