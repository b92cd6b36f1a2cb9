//! Five sources and twenty views over them, in four layers, with two diamonds that readers look at.
//!
//! ```text
//! orders ──► order_counts ──┬──► branches ──► summary            regions ◄── placed ◄── orders, customers
//!    │  └──► order_totals ──┘       │            both_regions ◄──┤
//!    │            activity ──► activity_totals ──► top           region_totals ◄── orders, customers
//! ```

/// What a run begins with. Amounts are whole numbers: every comparison is exact.
pub const TABLES: &[&str] = &[
    "CREATE TABLE customers (id int PRIMARY KEY, region int NOT NULL, note text)",
    "CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL, note text)",
    "CREATE TABLE clicks (customer int, kind int, weight int)",
    "CREATE TABLE events (id int NOT NULL, day int NOT NULL, customer int, value int) PARTITION BY LIST (day)",
    "CREATE TABLE events_0 PARTITION OF events FOR VALUES IN (0, 1)",
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (2, 3)",
    "CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (4)",
    "CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (5)",
    "CREATE INDEX ON events (id)",
    "CREATE TABLE payments (id int PRIMARY KEY, purchase int NOT NULL, cents int)",
    "INSERT INTO customers SELECT g, g % 5 FROM generate_series(0, 99) g",
    "INSERT INTO orders SELECT g, g % 100, g * 7 % 1000 FROM generate_series(1, 3000) g",
    "INSERT INTO clicks SELECT g % 100, g % 4, g % 10 FROM generate_series(1, 2000) g",
    "INSERT INTO events SELECT g, g % 6, g % 100, g % 50 FROM generate_series(1, 2000) g",
    "INSERT INTO payments SELECT g, g, g % 1000 FROM generate_series(1, 1500) g",
];

/// Name, schedule, query; upstream first.
pub const VIEWS: &[(&str, &str, &str)] = &[
    ("order_counts", "100ms", "SELECT customer, count(*) AS n FROM orders GROUP BY customer"),
    ("order_totals", "1s", "SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer"),
    ("big_orders", "100ms", "SELECT id, customer, amount FROM orders WHERE amount >= 500"),
    (
        "clicks_by_kind",
        "calculated",
        "SELECT customer, kind, count(*) AS n, sum(weight) AS weight FROM clicks GROUP BY customer, kind",
    ),
    ("event_days", "1s", "SELECT day, count(*) AS n, sum(value) AS total, max(value) AS top FROM events GROUP BY day"),
    (
        "event_customers",
        "calculated",
        "SELECT customer, count(*) AS n, min(value) AS least FROM events GROUP BY customer",
    ),
    ("paid", "100ms", "SELECT purchase, count(*) AS n, sum(cents) AS cents FROM payments GROUP BY purchase"),
    (
        "traffic",
        "1s",
        "SELECT customer, 1 AS origin, weight AS value FROM clicks \
         UNION ALL SELECT customer, 2, value FROM events WHERE value > 10",
    ),
    ("placed", "calculated", "SELECT o.id, c.region, o.amount FROM orders o JOIN customers c ON c.id = o.customer"),
    (
        "region_totals",
        "1s",
        "SELECT c.region, count(*) AS n, sum(o.amount) AS total FROM orders o JOIN customers c ON c.id = o.customer \
         GROUP BY c.region",
    ),
    (
        "branches",
        "calculated",
        "SELECT customer, c.n AS counted, t.n, t.total FROM order_counts c JOIN order_totals t USING (customer)",
    ),
    ("regions", "1s", "SELECT region, count(*) AS n, sum(amount) AS total FROM placed GROUP BY region"),
    (
        "both_regions",
        "100ms",
        "SELECT region, r.n, r.total, t.n AS n_again, t.total AS total_again \
         FROM regions r JOIN region_totals t USING (region)",
    ),
    (
        "traffic_totals",
        "calculated",
        "SELECT customer, origin, count(*) AS n, sum(value) AS total FROM traffic GROUP BY customer, origin",
    ),
    ("balance", "1s", "SELECT b.id, b.customer, b.amount, p.cents FROM big_orders b JOIN paid p ON p.purchase = b.id"),
    (
        "activity",
        "calculated",
        "SELECT customer, 1 AS origin, n FROM order_counts UNION ALL SELECT customer, 2, n FROM clicks_by_kind \
         UNION ALL SELECT customer, 3, n FROM event_customers",
    ),
    (
        "summary",
        "100ms",
        "SELECT count(*) AS customers, sum(counted) AS counted, sum(n) AS n, sum(total) AS total FROM branches",
    ),
    (
        "activity_totals",
        "calculated",
        "SELECT customer, count(*) AS parts, sum(n) AS n, sum(n) FILTER (WHERE origin = 1) AS ordered FROM activity GROUP BY customer",
    ),
    (
        "region_traffic",
        "1s",
        "SELECT c.region, count(t.n) AS n, sum(t.total) AS total \
         FROM customers c LEFT JOIN traffic_totals t ON t.customer = c.id GROUP BY c.region",
    ),
    (
        "top",
        "1s",
        "SELECT customer, a.n, a.ordered, b.counted, b.total FROM activity_totals a JOIN branches b USING (customer)",
    ),
];

/// Views that take all branches of the diamonds they belong to along when they are refreshed by hand, which refreshes
/// what they read and nothing else.
pub const BY_HAND: &[&str] = &["top", "both_regions", "balance", "region_traffic", "event_days", "paid"];

/// Queries that find nothing at any snapshot: branches of a diamond agree with each other, and the views over them never
/// saw them disagree. (What reads a view may be older than it.)
pub const AGREEMENTS: &[(&str, &str)] = &[
    (
        "order_counts and order_totals",
        "SELECT customer, c.n, t.n FROM order_counts c FULL JOIN order_totals t USING (customer) WHERE c.n IS DISTINCT FROM t.n",
    ),
    (
        "regions and region_totals",
        "SELECT * FROM regions r FULL JOIN region_totals t USING (region) WHERE (r.n, r.total) IS DISTINCT FROM (t.n, t.total)",
    ),
    (
        "activity_totals and branches",
        "SELECT customer, ordered, counted FROM activity_totals FULL JOIN branches USING (customer) \
         WHERE ordered IS DISTINCT FROM counted",
    ),
    ("branches in themselves", "SELECT * FROM branches WHERE counted <> n"),
    ("summary in itself", "SELECT * FROM summary WHERE counted <> n"),
    ("both_regions in itself", "SELECT * FROM both_regions WHERE n <> n_again OR total <> total_again"),
    ("top in itself", "SELECT * FROM top WHERE ordered <> counted"),
];

pub fn create_view(name: &str, schedule: &str, query: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW {name} WITH (pg_trickle.incremental, pg_trickle.schedule = '{schedule}') AS {query}"
    )
}
