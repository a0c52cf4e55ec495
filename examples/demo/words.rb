# frozen_string_literal: true

module Demo
  # Numbers as people read them.
  module Words
    module_function

    # @return [String] "1,234"
    def count(number)
      number.round.to_s.gsub(/(?<=\d)(?=(\d{3})+\z)/, ",")
    end

    # @param seconds [Float, nil]
    # @return [String] "0.9 ms", "73 ms", "1.52 s"; "-" for nil
    def seconds(seconds)
      return "-" unless seconds
      return format("%.2f s", seconds) if seconds >= 1
      return format("%.0f ms", seconds * 1000) if seconds >= 0.01

      format("%.1f ms", seconds * 1000)
    end

    def plural(number, word)
      "#{count(number)} #{word}#{'s' unless number == 1}"
    end
  end
end
