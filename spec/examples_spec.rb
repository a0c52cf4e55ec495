# frozen_string_literal: true

RSpec.describe "the example of the README" do
  path = File.join(ROOT, "examples", "ten_lines.rb")

  it "is the one in the folder of examples, and has ten lines" do
    code = File.read(path)
    expect(File.read(File.join(ROOT, "README.md"))).to include("```ruby\n#{code}```\n")
    expect(code.lines.size).to eq(10)
  end

  it "processes every message, and stops at Ctrl-C with nothing left behind" do
    result = run_ruby("$stdout.sync = true\n#{File.read(path)}", deadline: 30) do |running|
      wait_until(20, "all orders") { running.out.scan(/order \d+/).uniq.size == 60 }
      Process.kill(:INT, -running.pid)
    end
    expect(result).to be_success, result.inspect
    expect(result.out.lines).to all(match(/\Anode [01]: order \d+\n\z/))
  end
end
