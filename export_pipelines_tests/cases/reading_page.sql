-- A shop with values that readers like to lose, for the page on reading packages.
CREATE TABLE shops (id text PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id int PRIMARY KEY,
    shop_id text NOT NULL REFERENCES shops,
    customer text NOT NULL,
    coupon text,
    total numeric(12, 2) NOT NULL,
    rate numeric,
    created_at timestamptz NOT NULL,
    shipped_on date,
    details jsonb,
    tags text[],
    receipt bytea
);
CREATE TABLE returns (
    id int PRIMARY KEY,
    shop_id text NOT NULL REFERENCES shops,
    order_id int NOT NULL REFERENCES orders,
    reason text,
    created_at timestamptz NOT NULL
);
INSERT INTO shops VALUES ('lisboa', 'Lisboa'), ('porto', 'Porto');
INSERT INTO orders VALUES
    (1, 'lisboa', 'Zoë', NULL, 19.90, 0.2300, '2024-01-31 23:30:00+01', '2024-02-02', '{"gift": true, "weight": 1.10}', '{new,"a,b"}', '\x00ff'),
    (2, 'lisboa', 'Ада', '', 1200.00, 0.0600, '2024-02-01 09:00:00.000001+00', NULL, '{"gift": false}', '{}', NULL),
    (3, 'lisboa', 'O''Brien', 'SPRING', 0.10, NULL, '2024-02-29 23:59:59+00', '2024-03-04', NULL, NULL, '\x'),
    (4, 'lisboa', '=Cash', NULL, 75.05, 0.2300, '2024-03-15 12:00:00+00', '2024-03-16', 'null', '{new}', NULL),
    (5, 'porto', 'Nobody of ours', NULL, 1.00, NULL, '2024-03-15 12:00:00+00', NULL, NULL, NULL, NULL);
INSERT INTO returns VALUES (1, 'lisboa', 2, 'too heavy', '2024-02-10 10:00:00+00');
