"""Every reason why a query is not materialized: its stable code, what is in the way, what to write instead.

`docs/plan.md` lists them with the shapes that are served.
"""

from __future__ import annotations

from endpoints.query.plan.model import Refusal

REASONS: dict[str, tuple[str, str]] = {
    "unreadable": ("{what}", "Write it as one SELECT with its clauses in the usual order."),
    "partitions": (
        "the answers of several partitions cannot be put together: {what}",
        "Group by a function of the partition column that tells slices apart, such as toDate of it, or leave "
        "out `partitions`.",
    ),
    "partition_table": (
        "no one table read is sliced: {what}",
        "Name the table, or the alias of the read, in `partitions.table`; it must stand in FROM.",
    ),
    "partition_column": (
        "the partition column cannot slice: {what}",
        "Slice by a column of type Date, DateTime or DateTime64 that is not Nullable; or by list, by a "
        "String or an Enum.",
    ),
    "partition_final": (
        "{what} FINAL: which version of a row is the last may depend on rows of other slices",
        "Aggregate with argMax in place of FINAL, or leave out `partitions`.",
    ),
    "partition_join": (
        "the join can make rows of {what} where it has none",
        "Put the sliced table first in FROM, and others behind it with INNER or LEFT JOIN.",
    ),
    "partition_zone": (
        "{what}",
        "Set `partitions.timezone` to the column's time zone, or name that of the partitions in the query.",
    ),
    "clock": (
        "{what} reads the clock, and rows are kept longer than a moment",
        "Write `clock: as_of`, for one moment in the whole asset, not in partitions; or take the moment as a "
        "variable with a default, such as `now - 7d`: fixed once per request.",
    ),
    "nondeterministic": (
        "{what} does not give the same answer twice, or not on another server",
        "Leave it out, or leave out `materialize` so that the query always runs live.",
    ),
    "hidden_name": ("the name {what} is one that plans use", "Choose another name."),
    "set_operator": (
        "a variable in a UNION, INTERSECT or EXCEPT that is more than SELECTs side by side",
        "Leave out WITH and what stands behind brackets; or put the union into a subquery of FROM and the "
        "variable's condition in the outer WHERE.",
    ),
    "union_branch": (
        "a SELECT of a UNION, INTERSECT or EXCEPT does not carry the others' variables",
        "Write `expression = {{variable:Type}}` in the WHERE of every SELECT, for the same variables, none "
        "optional, and GROUP BY where rows are aggregated.",
    ),
    "union_types": (
        "the SELECTs of a UNION have types without a common one: {what}",
        "Give both one type, such as accurateCastOrNull(column, 'Int64') for UInt64 beside signed integers.",
    ),
    "with_totals": (
        "WITH TOTALS has no place in an answer's rows",
        "Ask for the totals in an endpoint of their own.",
    ),
    "rollup": ("subtotals of one value's rows would mix with another's", "Write one endpoint per level."),
    "with_fill": (
        "WITH FILL makes rows where the filter leaves none",
        "Fill gaps where the answer is used.",
    ),
    "with_ties": (
        "WITH TIES counts the rows of all values together",
        "Write LIMIT without TIES and order by more columns.",
    ),
    "not_selected": (
        "DISTINCT makes one row of several that differ in {what}",
        "Select it as well, or leave it out.",
    ),
    "float_distinct": (
        "DISTINCT over the float {what}: whether -0.0 and 0.0 are one row depends on how ClickHouse sorts",
        "Leave out DISTINCT, or round to a Decimal.",
    ),
    "sample": (
        "SAMPLE of a number of rows depends on how many rows the filter leaves",
        "Sample a share instead: SAMPLE 0.1.",
    ),
    "settings": ("the setting {what} may change the answer", "Leave it out."),
    "placeholder_in_with": ("a variable in WITH", "Use it in the WHERE of the outer SELECT."),
    "placeholder_in_from": (
        "a variable inside FROM: in a subquery, a join or a table function",
        "Move its condition into the WHERE of the outer SELECT.",
    ),
    "placeholder_in_group_by": ("a variable in GROUP BY", "Group by the plain expression."),
    "placeholder_in_subquery": (
        "a variable in a condition that holds a subquery",
        "Write the condition on a column of the outer SELECT.",
    ),
    "bucket": (
        "{what} has a `bucket`, and is used otherwise than as the bound of `>=` or `<` in a condition",
        "Compare by `expression >= {{variable:Type}}` or `<`, or leave out `bucket`.",
    ),
    "bucket_zone": (
        "where a bucket begins in {what} depends on rules about its clocks, which change",
        "Compare a Date, `toDate(time) >= {{day:Date}}`, or use a smaller `bucket`, or a column in UTC.",
    ),
    "prewhere_final": (
        "a variable in PREWHERE of a FINAL read filters before rows are replaced",
        "Write the condition in WHERE.",
    ),
    "array_join": (
        "arrayJoin where a condition is made, or above a cut, makes rows as well",
        "Write has(array, {{variable:Type}}), or ARRAY JOIN in FROM.",
    ),
    "alias": (
        "an alias made within an expression, or one of an item that waits for the request, is used elsewhere",
        "Give names to whole items of SELECT only, and others than those of columns.",
    ),
    "lambda": ("a variable in a condition with a lambda", "Compare a column or a function of columns."),
    "xor": ("a variable in a condition with XOR", "Write it with AND, OR and NOT."),
    "window": (
        "a window function in WITH, or in a condition of WHERE",
        "Write it in SELECT, and a condition on it in QUALIFY.",
    ),
    "group_by_nothing": ("GROUP BY () has no key to add to", "Group by the compared expression."),
    "condition": (
        "ClickHouse cannot evaluate on stored columns what waits for the variable: {what}",
        "Compare columns, or functions of columns, with the variable.",
    ),
    "version": (
        "part of the query would run when rows are read, exact only beside ClickHouse {what} or newer",
        "Use such a server; or compare columns by `= < <= > >=` with variables of their own types, and "
        "aggregate under GROUP BY of these columns.",
    ),
    "star": (
        "`*` over rows that a variable filters below another step, or in a UNION",
        "Name the columns.",
    ),
    "unsought": (
        "a SELECT that no variable narrows by `=` has more than {what} rows, which each request would read",
        "Compare one of its columns with a variable by `=`, or aggregate it further.",
    ),
    "subquery_above": (
        "a subquery above rows that a variable filters",
        "Join it in FROM, or ask for it in an endpoint of its own.",
    ),
    "placeholder_in_aggregate": (
        "a variable inside the aggregate {what}",
        "Filter with it in WHERE, or group by what it compares.",
    ),
    "aggregate": (
        "{what} cannot be put together exactly from parts, which this variable needs",
        "Use `=` with a variable that is always given, another aggregate, or rows that no subquery orders.",
    ),
    "type": (
        "{what}",
        "Declare the variable with the type of what it is compared with.",
    ),
    "columns": ("the plan's columns are not the query's", "Name every item of SELECT with AS."),
    "unstorable": ("{what}", "Select it in another form, under a name of its own, or leave it out."),
    "query": (
        "ClickHouse refuses the query, with an example for each variable: {what}",
        "Correct it, or give its variables an `example` in endpoint.yaml that it takes.",
    ),
    "unplannable": ("ClickHouse cannot read the plan: {what}", "Write the query in plainer words."),
}


def refusal(code: str, line: int, what: str = "") -> Refusal:
    """The refusal of that code; `what` fills its sentence."""
    detail, fix = REASONS[code]
    return Refusal(code, detail.format(what=what), line, fix.format())
