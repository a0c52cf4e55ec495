# frozen_string_literal: true

require "spec_helper"
require "tmpdir"
require_relative "../soak/ledger"

RSpec.describe "the ledger of bin/soak" do
  around { |example| Dir.mktmpdir { |scratch| Dir.chdir(scratch, &example) } }

  # @param batches [Array] milliseconds, and numbers of messages
  def write(pid, *batches, finished: true)
    clock = batches.map(&:first)
    allow(Soak).to receive(:now_ms) { clock.shift || 0 }
    record = Soak::Record.new("consumed.0.#{pid}.1")
    batches.each { |_, numbers| record.batch(numbers.map { |number| "#{number} and more" }) }
    record.finish if finished
  end

  it "counts what is lost and what came again, also while it is written" do
    ledger = Soak::Ledger.new(6)
    write(1, [10, [0, 1]], [20, [3]])
    expect([ledger.read.seen, ledger.again, ledger.first_lost]).to eq [3, 0, 2]
    write(2, [30, [2, 3]], [40, [5, 3]])
    expect([ledger.read.seen, ledger.again, ledger.first_lost]).to eq [5, 2, 4]
    # Half of a batch.
    File.binwrite("consumed.0.3.1", [50, 1, 4].pack("Q>NN").byteslice(0, 14))
    expect([ledger.read.seen, ledger.again, ledger.first_lost]).to eq [5, 2, 4]
    File.binwrite("consumed.0.3.1", [50, 1, 4].pack("Q>NN"))
    expect([ledger.read.seen, ledger.again, ledger.first_lost]).to eq [6, 2, nil]
    expect(ledger.read.seen).to eq 6
  end

  it "allows the work of half a second, where a process could not commit it" do
    ledger = Soak::Ledger.new(100)
    write(1, [1000, [0, 1, 2]], [1400, [3, 4]], [1800, [5]])
    expect(ledger.read.allowed([])).to eq 0
    write(2, [1000, [6, 7, 8]], [1400, [9, 10]], [1800, [11]], finished: false)
    expect(ledger.read.allowed([])).to eq 3
    # The first one was frozen at 2,000, and had no broker from 1,600 to 1,700.
    expect(ledger.allowed([[1, 2000, 2000]])).to eq 3 + 1
    expect(ledger.allowed([[1, 2000, 2000], [1, 1600, 1700]])).to eq 3 + 1 + 3
  end
end
