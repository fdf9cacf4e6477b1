/** Ten steps such as analysts write: two wide ones, a join back of totals, aggregates, a window, small reports. */
export const STEPS: ReadonlyArray<{ name: string; needs: readonly string[]; sql: string }> = [
  {
    name: 'clean',
    needs: [],
    sql: `select id, customer, product, region, day, quantity, price, discount from source.orders where quantity > 0 and region is not null`,
  },
  {
    name: 'priced',
    needs: ['clean'],
    sql: `select id, customer, product, region, day, quantity, cast(quantity * price * (1 - discount) as decimal(18, 2)) as revenue, date_trunc('month', day)::date as month from clean`,
  },
  {
    name: 'by_day',
    needs: ['priced'],
    sql: `select day, region, count(*) as orders, sum(revenue) as revenue, avg(quantity) as quantity from priced group by day, region order by day, region`,
  },
  {
    name: 'by_customer',
    needs: ['priced'],
    sql: `select customer, count(*) as orders, sum(revenue) as revenue, sum(quantity) as quantity, max(day) as last_day from priced group by customer`,
  },
  {
    name: 'by_product',
    needs: ['priced'],
    sql: `select product, month, sum(revenue) as revenue, count(distinct customer) as customers from priced group by product, month`,
  },
  {
    name: 'ranked',
    needs: ['by_customer'],
    sql: `select *, ntile(10) over (order by revenue desc) as decile, row_number() over (order by revenue desc) as place from by_customer`,
  },
  {
    name: 'enriched',
    needs: ['priced', 'ranked'],
    sql: `select p.id, p.customer, p.product, p.region, p.month, p.revenue, r.decile, p.revenue / nullif(r.revenue, 0) as share from priced p join ranked r using (customer)`,
  },
  {
    name: 'running',
    needs: ['by_day'],
    sql: `select *, sum(revenue) over (partition by region order by day) as total, avg(revenue) over (partition by region order by day rows 6 preceding) as week from by_day`,
  },
  {
    name: 'deciles',
    needs: ['enriched'],
    sql: `select month, decile, sum(revenue) as revenue, count(*) as orders, avg(share) as share from enriched group by month, decile order by month, decile`,
  },
  {
    name: 'report',
    needs: ['deciles', 'by_product'],
    sql: `select d.month, d.decile, d.revenue, p.products from deciles d join (select month, count(*) as products from by_product group by month) p using (month) order by all`,
  },
]

export const THREADS = 2
export const MEMORY_BYTES = 4 * 2 ** 30

/** The peak of a process's resident memory in bytes; null where the system does not say. */
export const peakOf = (status: string): number | null => {
  const line = /^VmHWM:\s+(\d+) kB/m.exec(status)
  return line ? Number(line[1]) * 1024 : null
}
