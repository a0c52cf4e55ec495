# frozen_string_literal: true

require "#{ROOT}/examples/demo/frame"
require "#{ROOT}/examples/demo/words"

RSpec.describe Demo::Words do
  it "writes numbers as people read them" do
    expect([0, 999, 1000, 1_234_567].map { |number| described_class.count(number) }).to eq(%w[0 999 1,000 1,234,567])
    times = [nil, 0.0009, 0.0731, 1.523].map { |time| described_class.seconds(time) }
    expect(times).to eq(["-", "0.9 ms", "73 ms", "1.52 s"])
  end

  it "breaks a line between words, below its text" do
    line = "Duplicates   500   (at least once: done again)"
    expect(described_class.wrap(line, 30)).to eq(["Duplicates   500   (at least", "             once: done again)"])
    expect(described_class.wrap(line, nil)).to eq([line])
    expect(described_class.wrap("x" * 40, 30)).to eq(["x" * 40])
  end
end

RSpec.describe Demo::Table do
  columns = [Demo::Table::Column.new("node", :right, 0), Demo::Table::Column.new("state", :left, 1),
             Demo::Table::Column.new("pid", :right, 2)]

  it "leaves out what matters least where there is no room" do
    table = described_class.new(columns, [%w[0 ready 4711]])
    expect(table.lines).to eq(["  node  state   pid", "     0  ready  4711"])
    expect(table.lines(15)).to eq(["  node  state", "     0  ready"])
    expect(table.lines(5)).to eq(["  node", "     0"])
  end
end
