CREATE TABLE firms(id bigint primary key, label text); INSERT INTO firms VALUES (1,'One'),(2,'Two');
CREATE TABLE base(id int primary key, firm_id bigint not null references firms, v text);
CREATE TABLE child(extra text, PRIMARY KEY (id)) INHERITS (base);
INSERT INTO base VALUES (1,1,'b'); INSERT INTO child VALUES (2,1,'c','only here');
