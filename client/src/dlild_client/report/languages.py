"""Words of reports, in every language: one table.

A text may hold fields in braces, which `words` fills in. Texts of flags in English are those of
`dlild_client.flags`; the table holds their translations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from dlild_client.errors import BadSettingsError
from dlild_client.flags import MEANINGS, short

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Text(NamedTuple):
    """One text in each language."""

    en: str
    zh: str


TEXTS: Mapping[str, Text] = {
    # the frame
    "title": Text("DL-ILD report", "DL-ILD 报告"),
    "lang": Text("en", "zh-Hans"),
    "research_use": Text("RESEARCH USE ONLY", "仅供科研使用"),
    "notice": Text(
        "For research use only. Not a medical device: not for diagnosis, nor for decisions on "
        "treatment. The network has been trained on phantoms and planted lesions, never on a "
        "patient with ILD.",
        "仅供科研使用。本软件不是医疗器械，不得用于诊断或治疗决策。"
        "网络仅以仿真体模和植入病灶训练，从未以间质性肺病患者的数据训练。",
    ),
    "no_font": Text(
        "No Chinese font is installed: this page is in English.",
        "未安装中文字体：本页为英文。",
    ),
    # the score
    "score_is": Text(
        "Share of the lung that interstitial lung disease has taken, lesions included in the lung.",
        "间质性肺病病灶占全肺（含病灶）体积的百分比。",
    ),
    "repeat_same": Text(
        "A second scan by the same protocol is expected from {low} to {high} % (95 %; "
        "repeatability coefficient {coefficient} points).",
        "以相同方案再次扫描，预期结果为 {low} 至 {high} %（95 %；重复性系数 {coefficient} 个百分点）。",
    ),
    "repeat_all": Text(
        "With another kernel, dose, slice thickness or depth of breath: from {low} to {high} % "
        "({coefficient} points).",
        "若重建核、剂量、层厚或吸气深度不同：{low} 至 {high} %（{coefficient} 个百分点）。",
    ),
    "repeat_unknown": Text(
        "The repeatability of this model version is not known.", "该模型版本的重复性未知。"
    ),
    "repeat_source": Text(
        "Repeatability was measured on phantoms, not on patients.",
        "重复性以体模测得，并非患者数据。",
    ),
    "lung_volume": Text("All lung", "全肺"),
    "lesion_volume": Text("All lesions", "全部病灶"),
    # classes and zones
    "classes": Text("Classes, share of all lung", "各类别占全肺百分比"),
    "class": Text("Class", "类别"),
    "zones": Text("Zones, share of lesions in each", "各肺区病灶百分比"),
    "zone": Text("Zone", "肺区"),
    "share": Text("Share", "占比"),
    "volume": Text("Volume", "体积"),
    "certainty": Text("Certainty", "确信度"),
    "class.background": Text("Outside the lungs", "肺外"),
    "class.lung": Text("Lung without lesion", "无病灶肺组织"),
    "class.ground_glass": Text("Ground-glass opacity", "磨玻璃影"),
    "class.reticulation": Text("Reticulation", "网状影"),
    "class.honeycombing": Text("Honeycombing", "蜂窝影"),
    "class.consolidation": Text("Consolidation", "实变"),
    "zone.right_upper": Text("Right upper", "右上"),
    "zone.right_middle": Text("Right middle", "右中"),
    "zone.right_lower": Text("Right lower", "右下"),
    "zone.left_upper": Text("Left upper", "左上"),
    "zone.left_middle": Text("Left middle", "左中"),
    "zone.left_lower": Text("Left lower", "左下"),
    "zone_note": Text(
        "Zones are thirds of the height of the lungs.", "肺区为两肺高度的上、中、下三分之一。"
    ),
    # densitometry
    "density": Text("Densitometry of the lung", "肺密度测量"),
    "density.region": Text("Region", "区域"),
    "density.lung": Text("All lung", "全肺"),
    "density.mean_hu": Text("Mean, HU", "均值，HU"),
    "density.sd_hu": Text("SD, HU", "标准差，HU"),
    "density.skewness": Text("Skewness", "偏度"),
    "density.kurtosis": Text("Kurtosis", "峰度"),
    "density.p15": Text("15th percentile, HU", "第 15 百分位，HU"),
    "density.high_attenuation_percent": Text("-600 to -250 HU, %", "-600 至 -250 HU (%)"),
    "density.low_attenuation_percent": Text("Below -950 HU, %", "低于 -950 HU (%)"),
    "density.mass_g": Text("Mass, g", "质量，g"),
    "density_note": Text(
        "Of the scanned voxels of the lung, lesions included. Vessels and airway walls alone give "
        "4 to 6 % from -600 to -250 HU.",
        "按扫描体素统计，含病灶。仅血管与气道壁即占 -600 至 -250 HU 的 4 至 6 %。",
    ),
    # flags
    "flags": Text("Flags", "警示"),
    "no_flags": Text("None: nothing about the scan raised a doubt.", "无：扫描未见可疑之处。"),
    "more_flags": Text("and {count} more, in result.json", "另有 {count} 项，见 result.json"),
    # pictures
    "axial_row": Text("Axial, from above down", "横断面，自上而下"),
    "coronal_row": Text("Coronal, from front to back", "冠状面，自前向后"),
    "no_pictures": Text(
        "The viewer needs the scan and its labels.nii.gz: dlild report RESULT --scan SCAN.",
        "浏览器需要原始扫描及其 labels.nii.gz:dlild report RESULT --scan SCAN。",
    ),
    # the viewer
    "pictures": Text("Slices", "图像"),
    "montage": Text(
        "Axial and coronal slices with coloured lesions", "带彩色病灶标注的横断面与冠状面"
    ),
    "viewer": Text("Viewer of the scan", "扫描浏览器"),
    "plane.axial": Text("Axial", "横断面"),
    "plane.coronal": Text("Coronal", "冠状面"),
    "plane.sagittal": Text("Sagittal", "矢状面"),
    "slice_of_plane": Text("Slice, {plane}", "层面，{plane}"),
    "slice_of": Text("slice {index} of {count}", "第 {index} 层 / 共 {count} 层"),
    "window": Text("Window", "窗"),
    "window.lung": Text("Lung", "肺窗"),
    "window.narrow": Text("Narrow lung", "窄肺窗"),
    "window.soft": Text("Soft tissue", "软组织窗"),
    "window.bone": Text("Bone", "骨窗"),
    "level": Text("Level", "窗位"),
    "width": Text("Width", "窗宽"),
    "overlay": Text("Label map", "标注图"),
    "shown": Text("shown", "显示"),
    "opacity": Text("Opacity", "不透明度"),
    "cross": Text("Crosshair", "十字线"),
    "under_pointer": Text("Under the pointer:", "指针处："),
    "keys": Text("Keys, once the viewer is clicked:", "快捷键（点击浏览器后）："),
    "keys.slices": Text("slices", "翻层"),
    "keys.planes": Text("plane", "切面"),
    "keys.windows": Text("window", "窗"),
    "keys.overlay": Text("label map", "标注图"),
    "keys.opacity": Text("opacity", "不透明度"),
    "keys.cross": Text("crosshair", "十字线"),
    "no_viewer": Text(
        "The viewer needs a browser of 2023 or later: Firefox 113, Chrome 103, Safari 16.4.",
        "浏览器版本过旧：需 Firefox 113、Chrome 103、Safari 16.4 或更新版本。",
    ),
    "viewer_note": Text(
        "Shown on the grid that the network saw ({mm} mm), not on the slices of the scanner; HU in "
        "steps of {step}, from -1024 to 1023.",
        "显示的是网络所用网格（{mm} mm），并非扫描仪原始层面；HU 步长 {step}，范围 -1024 至 1023。",
    ),
    "scale_label": Text(
        "DL-ILD {score} % on a scale of 0 to 100 %", "DL-ILD {score} %，刻度 0 至 100 %"
    ),
    # the reading sheet
    "reading": Text("Reading sheet", "阅片表"),
    "blind_note": Text(
        "Score, flags and label map are covered until you have saved your reading below.",
        "在您于下方保存阅片结果之前，评分、警示与标注图均不显示。",
    ),
    "reading_how": Text(
        "Estimate how much of each zone every class takes, in steps of 5 %. A reading cannot be "
        "changed once it is saved. It stays in this page until you store it as a file.",
        "请估计各类别占每个肺区的百分比，步长 5 %。保存后不可更改。存为文件之前，结果只保留在本页面中。",
    ),
    "reading_not_blind": Text(
        "The score is shown above, so this reading is marked as not blind; `dlild report --blind` "
        "makes a page that covers it.",
        "上方已显示评分，因此本次阅片标记为非盲；使用 `dlild report --blind` 可生成隐藏评分的页面。",
    ),
    "reading_caption": Text(
        "Percent of the zone; zones are thirds of the height of the lungs",
        "占该肺区的百分比；肺区为两肺高度的三分之一",
    ),
    "reading.reader": Text("Reader (initials or code)", "阅片者（代号）"),
    "reading.id": Text("Id of the scan", "扫描编号"),
    "reading.sum": Text("Sum", "合计"),
    "reading.extent": Text("Visual extent (mean of the zones)", "目测范围（各肺区均值）"),
    "reading.save": Text("Save reading", "保存阅片结果"),
    "reading.saved": Text("Saved. Store it as a file.", "已保存。请存为文件。"),
    "reading.no_reader": Text("Enter the reader's initials or code.", "请输入阅片者代号。"),
    "reading.no_id": Text("Enter the id of the scan.", "请输入扫描编号。"),
    "reading.not_a_step": Text(
        "{field}: enter a number from 0 to 100 in steps of 5.",
        "{field}：请输入 0 至 100 且为 5 的倍数的数值。",
    ),
    "reading.over_100": Text(
        "{field}: the classes add up to more than 100 %.", "{field}：各类别之和超过 100 %。"
    ),
    # comparisons
    "compare.title": Text("DL-ILD: change over time", "DL-ILD：随时间的变化"),
    "compare.scan": Text("Scan {index} of {count}", "第 {index} 次扫描 / 共 {count} 次"),
    "compare.earlier": Text("Earlier", "较早"),
    "compare.later": Text("Later", "较晚"),
    "compare.points": Text("Points", "百分点"),
    "compare.verdict": Text("Against noise", "与噪声相比"),
    "compare.by": Text("by {points} points", "变化 {points} 个百分点"),
    "compare.years": Text("in {years} years", "历时 {years} 年"),
    "verdict.increase": Text("increase, more than noise", "增加，超出噪声"),
    "verdict.decrease": Text("decrease, more than noise", "减少，超出噪声"),
    "verdict.within_noise": Text("within noise", "在噪声范围内"),
    "verdict.unknown": Text("unknown", "未知"),
    "compare.noise.same_protocol": Text(
        "Differences up to {coefficient} points (repeatability coefficient by one protocol; its 95 % "
        "interval is {low} to {high}) may be noise.",
        "不超过 {coefficient} 个百分点的差异（同一方案的重复性系数；其 95 % 区间为 {low} 至 {high}）可能是噪声。",
    ),
    "compare.noise.all_changes": Text(
        "The scans differ in kernel or slice thickness: differences up to {coefficient} points (95 % "
        "interval {low} to {high}) may be noise.",
        "两次扫描的重建核或层厚不同：不超过 {coefficient} 个百分点的差异（95 % 区间 {low} 至 {high}）可能是噪声。",
    ),
    "compare.not_sure": Text(
        "This change lies within the interval of the coefficient itself.",
        "该变化仍在系数自身的区间内。",
    ),
    "compare.parts_noise": Text(
        "For classes and zones no coefficient was measured; they are held against that of DL-ILD, "
        "below which they may not be told apart from noise.",
        "各类别与肺区没有单独测得的系数；此处以 DL-ILD 的系数衡量，其自身的噪声可能更大。",
    ),
    "compare.slope": Text(
        "Over {count} scans: {slope} points a year (95 % interval {low} to {high}).",
        "{count} 次扫描：每年 {slope} 个百分点（95 % 区间 {low} 至 {high}）。",
    ),
    "compare.slope_noise": Text(
        "(noise alone: up to {points} points a year)", "（仅噪声：每年不超过 {points} 个百分点）"
    ),
    "compare.differs": Text("What differs between the scans", "两次扫描的不同之处"),
    "compare.same": Text(
        "Kernel, slice thickness, scanner, engine and depth of breath are alike.",
        "重建核、层厚、扫描仪、推理引擎与吸气深度均相近。",
    ),
    "compare.all": Text("All scans", "全部扫描"),
    "compare.number": Text("Scan", "扫描"),
    "compare.day": Text("Day", "日"),
    "compare.linked": Text(
        "Both scans move together, by their share of the height, depth and width of the lungs.",
        "两次扫描按肺高、深、宽的比例联动。",
    ),
    "compare.no_pictures": Text(
        "The viewer needs the scans: dlild compare ... --report --scan EARLIER --scan LATER.",
        "浏览器需要原始扫描：dlild compare ... --report --scan 较早 --scan 较晚。",
    ),
    "differs.kernel_differs": Text(
        "Another kernel: {earlier}, then {later}. Sharp kernels raise the score of the same lung.",
        "重建核不同：先为 {earlier}，后为 {later}。锐利核会使同一肺的评分升高。",
    ),
    "differs.kernel_unknown": Text(
        "A kernel is not known ({earlier}, {later}); taken as different.",
        "重建核未知（{earlier},{later}）；按不同处理。",
    ),
    "differs.thickness_differs": Text(
        "Another slice thickness: {earlier} mm, then {later} mm.",
        "层厚不同：先为 {earlier} mm，后为 {later} mm。",
    ),
    "differs.thickness_unknown": Text(
        "A slice thickness is not known ({earlier}, {later}); taken as different.",
        "层厚未知（{earlier},{later}）；按不同处理。",
    ),
    "differs.scanner_differs": Text(
        "Another manufacturer: {earlier}, then {later}.", "厂商不同：先为 {earlier}，后为 {later}。"
    ),
    "differs.engine_differs": Text(
        "Another engine: {earlier}, then {later}; engines agree within 0.05 point.",
        "推理引擎不同：先为 {earlier}，后为 {later}；差异在 0.05 个百分点以内。",
    ),
    "differs.lung_volume_differs": Text(
        "Lung volumes differ by more than 15 %: {earlier} mL, then {later} mL. The depth of breath "
        "changes the score, or the disease has shrunk the lungs.",
        "肺容积相差超过 15 %：先为 {earlier} mL，后为 {later} mL。吸气深度会改变评分，或病变使肺缩小。",
    ),
    "differs.scan_flags_differ": Text(
        "Flags of the scans differ: {earlier}; then {later}.",
        "两次扫描的警示不同：先为 {earlier}；后为 {later}。",
    ),
    # the index of a cohort
    "index.title": Text("DL-ILD of a cohort", "队列 DL-ILD"),
    "index.counts": Text(
        "{scored} scans were scored, {flagged} have flags, {others} could not be scored.",
        "已评分 {scored} 例，其中 {flagged} 例有警示；{others} 例无法评分。",
    ),
    "index.sorting": Text(
        "Scans with flags come first; press a heading to sort.",
        "有警示者排在前面；点击表头可排序。",
    ),
    "index.picture": Text("Picture", "图像"),
    "index.scan": Text("Scan", "扫描"),
    "index.status": Text("Status", "状态"),
    "status.scored": Text("scored", "已评分"),
    "status.rejected": Text("rejected", "已拒绝"),
    "status.failed": Text("failed", "失败"),
    # provenance
    "provenance": Text("Provenance", "来源"),
    "model": Text("Model", "模型"),
    "model_is": Text("{name}, version {version}", "{name}，版本 {version}"),
    "weights": Text("Weights", "权重"),
    "engine": Text("Engine", "推理引擎"),
    "series": Text("Series", "序列"),
    "series_digest": Text("Series digest", "序列摘要"),
    "slices": Text("{count} slices", "{count} 层"),
    "thickness": Text("thickness {mm} mm", "层厚 {mm} mm"),
    "step": Text("step {mm} mm", "层间距 {mm} mm"),
    "kernel": Text("kernel {name}", "重建核 {name}"),
    "source.dicom": Text("DICOM", "DICOM"),
    "source.image": Text("image file without DICOM headers", "无 DICOM 头的图像文件"),
    "source.array": Text("array", "数组"),
    "software": Text("Software", "软件"),
    # flags, translated
    "flag.thick_slices": Text("", "层厚或层间距超过 3 mm：细微征象被模糊"),
    "flag.gaps_between_slices": Text("", "层间肺组织未被扫描"),
    "flag.uneven_steps": Text("", "层间距不等；每层按其自身位置处理"),
    "flag.gantry_tilt_corrected": Text("", "机架倾斜；已通过重采样校正"),
    "flag.reoriented": Text("", "非横断面序列；已重采样为横断面"),
    "flag.reformat_scored": Text("", "应要求对重组图像进行了评分"),
    "flag.localizer_images_dropped": Text("", "序列中的定位像已排除"),
    "flag.captures_dropped": Text("", "序列中的截图已排除"),
    "flag.secondary_capture_scored": Text("", "图像为带 CT 几何信息的二次捕获"),
    "flag.other_objects_dropped": Text("", "序列中非 CT 层面的对象已排除"),
    "flag.lossy_copies_dropped": Text("", "经有损压缩的重复层面已排除"),
    "flag.series_joined": Text("", "各层序列 UID 不同的 CT 已合并"),
    "flag.repeated_slices_dropped": Text("", "序列中重复的层面已排除"),
    "flag.several_acquisitions": Text("", "序列含多次采集；仅对其中一次评分"),
    "flag.blank_slices": Text("", "首层或末层无图像：该处可能缺少肺组织"),
    "flag.other_series_with_faulty_geometry": Text("", "另一序列因几何信息有误被排除"),
    "flag.unreadable_files": Text("", "部分疑似 DICOM 文件无法读取"),
    "flag.files_missing": Text("", "DICOMDIR 所列文件缺失"),
    "flag.spacing_doubtful": Text("", "头信息间距为 1 x 1 x 1 mm，或其各部分互相矛盾"),
    "flag.orientation_assumed": Text("", "头信息未说明扫描方位"),
    "flag.numbers_repaired": Text("", "头信息数值格式不合 DICOM 规范；仅有一种合理解读"),
    "flag.numbers_unreadable": Text("", "头信息含非数值内容，已忽略"),
    "flag.rescale_assumed": Text("", "头信息无重标定参数；由空气灰度推算"),
    "flag.inverted_grey_values": Text("", "MONOCHROME1 灰度反转；已还原"),
    "flag.coarse_grey_levels": Text("", "灰度级间隔超过 4 HU"),
    "flag.lossy_compression": Text("", "压缩改变了灰度值"),
    "flag.padding_found": Text("", "视野外为常数值；按空气处理"),
    "flag.hu_shifted": Text("", "体外空气不接近 -1000 HU：校准可疑"),
    "flag.density_disagrees": Text("", "评分与高密度区占比相差悬殊：请核对病灶"),
    "flag.unusual_kernel": Text("", "重建核不常用于肺部"),
    "flag.spacing_far_from_training": Text("", "像素或层面尺寸与网络训练数据相差较大"),
    "flag.contrast_likely": Text("", "血管内对比剂使肺密度升高"),
    "flag.expiration_likely": Text("", "呼气相扫描的肺密度较高，类似病变"),
    "flag.orientation_doubtful": Text("", "体位与头信息不符；各项数值的左右或上下可能颠倒"),
    "flag.prone_likely": Text("", "检查床位于患者前方：肺前后与仰卧位不同"),
    "flag.not_supine": Text("", "患者非仰卧位：低处肺组织较密"),
    "flag.metal_likely": Text("", "金属：其条状伪影类似病灶"),
    "flag.heavy_noise": Text("", "噪声可能掩盖或模拟细微征象"),
    "flag.lungs_cut_off_top": Text("", "肺上部超出扫描范围"),
    "flag.lungs_cut_off_bottom": Text("", "肺下部超出扫描范围"),
    "flag.lungs_cut_off_sides": Text("", "肺超出视野"),
    "flag.lungs_at_box_edge": Text("", "网络在肺框边界处见到肺组织；框外可能还有"),
    "flag.labels_beyond_scan": Text("", "网络在扫描范围外的填充区见到肺组织"),
    "flag.chest_doubtful": Text("", "体积或长度不似肺，或为身体其他部位"),
}
"""Every text by its key. A flag's English text is empty here: it stands in `flags.MEANINGS`."""


def words(key: str, language: Language, **values: Any) -> str:
    """Return a text in a language, its fields filled in.

    Raises
    ------
    KeyError
        The table has no such text.
    """
    return str(getattr(TEXTS[key], language)).format(**values)


def flag_words(code: str, values: Mapping[str, Any], language: Language) -> str:
    """State a flag in a language, with its values: one line.

    A code that the table lacks, of a newer client, is stated in English.
    """
    known = TEXTS.get(f"flag.{code}")
    meaning = known.zh if known and language == "zh" else MEANINGS.get(code, code.replace("_", " "))
    numbers = ", ".join(f"{name} {short(value)}" for name, value in values.items())
    return f"{meaning} ({numbers})" if numbers else meaning


def class_title(name: str, title: str, language: Language) -> str:
    """Name a class; `title` is the contract's, for a class that the table lacks."""
    known = TEXTS.get(f"class.{name}")
    return getattr(known, language) if known else title


def check_language(language: str) -> Language:
    """Return a language that the table has.

    Raises
    ------
    BadSettingsError
        It has no other.
    """
    for known in LANGUAGES:
        if language == known:
            return known
    raise BadSettingsError(f"no language {language!r}; choose one of {', '.join(LANGUAGES)}")
